import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Context } from './context.ts';
import { failed, ifPresent } from './error.ts';
import { pause, settlesWithin } from './processes.ts';
import { cleanEnvironment } from './run-user.ts';

export interface PidFile {
  readonly pid: number;
  readonly port: number;
  readonly ready: boolean;
}

/** What PostgreSQL writes about itself: pid in the first line, port in the fourth, state in the eighth. */
export async function readPidFile(cluster: string): Promise<PidFile | undefined> {
  const text = await ifPresent(readFile(join(cluster, 'postmaster.pid'), 'utf8'));
  const lines = text?.split('\n');
  return lines && { pid: Number(lines[0]), port: Number(lines[3]), ready: lines[7]?.trim() === 'ready' };
}

/** A PostgreSQL that is our own child. */
export class Postmaster {
  readonly port: number;
  readonly exited: Promise<void>;
  readonly #child: ChildProcess;
  #running = true;
  /** Why there is no process at all. */
  spawnError: Error | undefined;

  constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
    this.exited = new Promise((resolve) => {
      const ended = () => {
        this.#running = false;
        resolve();
      };
      child.once('exit', ended);
      child.on('error', (error) => {
        if (child.pid !== undefined) return;
        this.spawnError = error;
        ended();
      });
    });
    child.unref();
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get running(): boolean {
    return this.#running;
  }

  /** Fast shutdown first: it ends all sessions and writes everything down. */
  async stop(): Promise<void> {
    for (const [signal, patience] of [
      ['SIGINT', 20_000],
      ['SIGQUIT', 10_000],
      ['SIGKILL', 5_000],
    ] as const) {
      if (!this.#running) return;
      this.#child.kill(signal);
      await settlesWithin(this.exited, patience);
    }
  }
}

type Failure = 'busy' | 'port' | 'other';

/** An own backend of a killed server, or a port that someone else took first: both pass. */
function classify(output: string): Failure {
  if (
    /pre-existing shared memory block|lock file ".*" already exists|could not create lock file/.test(output)
  ) {
    return 'busy';
  }
  return /could not create any TCP\/IP sockets|Address already in use/.test(output) ? 'port' : 'other';
}

/** Why an attempt to start failed, with what PostgreSQL said. */
export class LaunchError extends Error {
  readonly failure: Failure;
  constructor(output: string, context: Context) {
    const lines = output.trim().split('\n').slice(-8).join('\n  ');
    super(`PostgreSQL did not start (see ${logPath(context)}):\n  ${lines}`);
    this.name = 'LaunchError';
    this.failure = classify(output);
  }
}

const logPath = (context: Context) => join(context.dataDir, 'postgres.log');
const recoveryPatience = 120_000;

/** Starts PostgreSQL on the port and waits until it accepts connections. */
export async function launch(context: Context, port: number): Promise<Postmaster> {
  const log = await openLog(context);
  try {
    const offset = (await log.stat()).size;
    const postmaster = spawnPostgres(context, port, log);
    try {
      await untilReady(context, postmaster);
    } catch (error) {
      await postmaster.stop();
      throw error;
    }
    if (postmaster.running) return postmaster;
    throw new LaunchError(postmaster.spawnError?.message ?? (await readFrom(log, offset)), context);
  } finally {
    await log.close();
  }
}

function spawnPostgres(context: Context, port: number, log: FileHandle): Postmaster {
  const child = spawn(context.binaries.postgres, postgresArguments(context, port), {
    ...context.user,
    cwd: '/',
    env: cleanEnvironment(),
    // An own session: the terminal's Ctrl-C is for the server, which then stops PostgreSQL in order.
    detached: true,
    stdio: ['ignore', log.fd, log.fd],
  });
  return new Postmaster(child, port);
}

function postgresArguments(context: Context, port: number): string[] {
  const settings: Record<string, string> = {
    logging_collector: 'off',
    // Statements and the values in an error's details are data, and a log is not the place for them.
    log_min_error_statement: 'panic',
    log_error_verbosity: 'terse',
    ...context.settings,
    // Not to be overridden: nobody but this machine, only over TCP, and messages that we can read.
    lc_messages: 'C',
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    port: String(port),
  };
  return [
    '-D',
    context.cluster,
    ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ];
}

/**
 * By PostgreSQL's own word in its pid file and not by connecting: on that port, someone else may answer and
 * would be told the password.
 */
async function untilReady(context: Context, postmaster: Postmaster): Promise<void> {
  const deadline = Date.now() + recoveryPatience;
  while (postmaster.running) {
    const file = await readPidFile(context.cluster);
    if (file?.ready && file.pid === postmaster.pid) return;
    if (Date.now() > deadline) throw failed(`PostgreSQL did not get ready in time (see ${logPath(context)})`);
    await pause(20, context.signal);
  }
}

const largestLog = 10 << 20;

async function openLog(context: Context): Promise<FileHandle> {
  // Root must not follow a link that the less privileged owner of the directory could have put there.
  const flags = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW;
  const log = await open(logPath(context), flags, 0o600);
  try {
    const { size, mode } = await log.stat();
    if ((mode & 0o777) !== 0o600) await log.chmod(0o600);
    if (context.user) await log.chown(context.user.uid, context.user.gid);
    if (size > largestLog) await log.truncate(0);
    return log;
  } catch (error) {
    await log.close();
    throw error;
  }
}

async function readFrom(log: FileHandle, offset: number): Promise<string> {
  const { size } = await log.stat();
  const length = Math.min(Math.max(size - offset, 0), 64 << 10);
  const { buffer, bytesRead } = await log.read(Buffer.alloc(length), 0, length, size - length);
  return buffer.toString('utf8', 0, bytesRead);
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw failed('no free port on 127.0.0.1');
  return address.port;
}
