import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createDatabase } from '../server/storage/database.ts';
import { startEmbedded } from '../server/storage/embedded.ts';
import { migrate } from '../server/storage/migrations.ts';
import { startEnvironment, startFlags } from '../test/support/start-command.ts';
import type { CandidateMessage, Sample } from './servers/candidate.ts';

/** What every benchmark stands on: a database of its own, servers as processes of their own, and an end to all of it. */

export const issuer = 'https://issuer.example.com';
const startLimitMs = 30_000;
const stopLimitMs = 10_000;

export interface Running<Name extends string> {
  readonly name: Name;
  readonly port: number;
  sample(): Promise<Sample>;
  stop(): Promise<void>;
}

/** What has been started, to be ended in reverse order however the run ends. */
export class Cleanup {
  readonly #steps: (() => Promise<unknown>)[] = [];
  #running: Promise<void> | undefined;

  add(step: () => Promise<unknown>): void {
    this.#steps.push(step);
  }

  run(): Promise<void> {
    this.#running ??= this.#runAll();
    return this.#running;
  }

  async #runAll(): Promise<void> {
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      await step().catch((error) => say(`clean-up: ${error}`));
    }
  }
}

/** An empty, migrated PostgreSQL as it comes, without the tests' shortcuts. */
export async function startDatabase(
  cleanup: Cleanup,
): Promise<{ directory: string; connectionString: string }> {
  const directory = await mkdtemp(join(tmpdir(), 'platform-tokens-bench-'));
  // As root, PostgreSQL runs as somebody else; out of its reach, the data would go elsewhere, and stay.
  await chmod(directory, 0o755);
  cleanup.add(() => rm(directory, { recursive: true, force: true }));
  say('starting PostgreSQL with its default durability');
  const settings = { shared_preload_libraries: 'pg_stat_statements' };
  const starting = startEmbedded({ dataDir: join(directory, 'data'), settings });
  cleanup.add(() =>
    starting.then(
      (started) => started.stop(),
      () => {},
    ),
  );
  const { connectionString } = await starting;
  const unlimited = createDatabase({ connectionString, limited: false });
  await migrate(unlimited.knex);
  await unlimited.knex.raw('CREATE EXTENSION pg_stat_statements');
  await unlimited.close();
  return { directory, connectionString };
}

/** A server's environment, as in production. */
export function createEnvironment(connectionString: string, directory: string) {
  return {
    NODE_ENV: 'production',
    HOST: '127.0.0.1',
    PORT: '0',
    ISSUER: issuer,
    DATABASE_URL: connectionString,
    KEY_ENCRYPTION_KEY: randomBytes(32).toString('base64url'),
    DATA_DIR: join(directory, 'server'),
  };
}

/** One of `bench/servers/`, as a process of its own. */
export async function startCandidate<Name extends string>(
  name: Name,
  env: NodeJS.ProcessEnv,
  directory: string,
  cleanup: Cleanup,
  profile?: string,
): Promise<Running<Name>> {
  const log = await open(join(directory, `${name}.log`), 'w');
  const { PATH, TMPDIR, NODE_OPTIONS } = process.env;
  const child = fork(new URL(`./servers/${name}.ts`, import.meta.url), {
    // Nothing else from outside: a LOG_LEVEL of the shell must not change what is measured.
    env: { PATH, TMPDIR, NODE_OPTIONS, ...(name === 'product' ? startEnvironment : {}), ...env },
    execArgv: [
      ...(name === 'product' ? startFlags : []),
      ...(profile ? ['--cpu-prof', `--cpu-prof-dir=${profile}`] : []),
    ],
    stdio: ['ignore', log.fd, 'inherit', 'ipc'],
  });
  await log.close();
  const stop = () => stopChild(child);
  cleanup.add(stop);
  const ready = await reply(child, 'ready', startLimitMs);
  return {
    name,
    port: ready.port,
    async sample() {
      const answer = reply(child, 'sample', startLimitMs);
      child.send('sample');
      return answer;
    },
    stop,
  };
}

/** The next message of this type. */
function reply<T extends CandidateMessage['type']>(
  child: ChildProcess,
  type: T,
  limitMs: number,
): Promise<CandidateMessage & { type: T }> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => {
      clearTimeout(timer);
      child.off('message', onMessage).off('exit', onExit);
      act();
    };
    const onMessage = (message: unknown) => {
      const received = message as CandidateMessage;
      if (received.type === type) settle(() => resolve(received as CandidateMessage & { type: T }));
    };
    const onExit = (code: number | null) => settle(() => reject(new Error(`a candidate ended: ${code}`)));
    const timer = setTimeout(
      () => settle(() => reject(new Error(`a candidate does not answer: ${type}`))),
      limitMs,
    );
    child.on('message', onMessage).on('exit', onExit);
  });
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const limit = setTimeout(() => child.kill('SIGKILL'), stopLimitMs);
  if (child.connected) child.disconnect();
  await exited;
  clearTimeout(limit);
}

export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Runs a benchmark to its end, however that comes. The exit status is 0 only where it met its targets. */
export async function run(main: (cleanup: Cleanup) => Promise<boolean>): Promise<never> {
  const cleanup = new Cleanup();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => void cleanup.run().finally(() => process.exit(1)));
  }
  let met = false;
  try {
    met = await main(cleanup);
  } catch (error) {
    say(error instanceof Error ? String(error.stack) : String(error));
  } finally {
    await cleanup.run();
  }
  process.exit(met ? 0 : 1);
}
