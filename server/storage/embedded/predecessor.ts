import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from './context.ts';
import { DatabaseLock } from './database-lock.ts';
import { errorCode, failed, ifPresent } from './error.ts';
import { type PidFile, readPidFile } from './postmaster.ts';
import { isPostmasterOf, pause, pidTaken } from './processes.ts';
import { inUse } from './start-lock.ts';

/**
 * Deals with what an earlier server left: takes over from a PostgreSQL whose server was killed, and lets a
 * used one be. Needs the start lock.
 * @throws EmbeddedPostgresError `in_use`
 */
export async function clearTheWay(context: Context, password: string): Promise<void> {
  const deadline = Date.now() + context.patience.answer;
  for (;;) {
    const found = await readPidFile(context.cluster);
    if (!found) return;
    if (!(await isPostmasterOf(found.pid, context.cluster))) return discard(context, found);
    if (await takeOver(context, found, password)) continue;
    if (Date.now() > deadline) {
      throw failed(`PostgreSQL (pid ${found.pid}) is using ${context.cluster} and does not answer`);
    }
    await pause(200, context.signal);
  }
}

/**
 * A dead pid's file stays: PostgreSQL removes it after a look at the shared memory named in it. It only
 * refuses for ever when some other process, or a zombie, has the pid now.
 */
async function discard({ cluster, log }: Context, { pid }: PidFile): Promise<void> {
  const path = join(cluster, 'postmaster.pid');
  if (pid > 0 && !pidTaken(pid)) return;
  if (!(pid > 0) && Date.now() - ((await ifPresent(stat(path)))?.mtimeMs ?? 0) < 1_000) await pause(1_000);
  log('removing a stale postmaster.pid', { pid });
  await rm(path, { force: true });
}

/** @returns false when it doesn't answer (yet) */
async function takeOver(context: Context, { pid, port }: PidFile, password: string): Promise<boolean> {
  const lock = await connect(context, port, password);
  if (!lock) return false;
  try {
    const orphaned = await lock.tryAcquire().catch(() => undefined);
    // The connection broke: it is shutting down already.
    if (orphaned === undefined) return false;
    if (!orphaned) throw inUse(context.dataDir);
    context.log('shutting down the PostgreSQL of a server that was killed', { pid });
    await endPostmaster(context, pid);
    return true;
  } finally {
    lock.close();
  }
}

async function connect(context: Context, port: number, password: string): Promise<DatabaseLock | undefined> {
  if (!(port > 0 && port < 65_536)) return undefined;
  try {
    return await DatabaseLock.connect(port, password);
  } catch (error) {
    // Connections that nobody uses don't fill up a server.
    if (errorCode(error) === '53300') throw inUse(context.dataDir);
    if (errorCode(error)?.startsWith('28')) {
      throw failed(`the PostgreSQL that runs in ${context.cluster} does not accept our password`, error);
    }
    return undefined;
  }
}

function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (errorCode(error) !== 'ESRCH') throw error;
  }
}

async function endPostmaster({ cluster, signal }: Context, pid: number): Promise<void> {
  for (const [name, milliseconds] of [
    ['SIGINT', 20_000],
    ['SIGQUIT', 10_000],
  ] as const) {
    if (!(await isPostmasterOf(pid, cluster))) return;
    signalIfThere(pid, name);
    const deadline = Date.now() + milliseconds;
    while (Date.now() < deadline) {
      if (!(await isPostmasterOf(pid, cluster))) return;
      await pause(50, signal);
    }
  }
  throw failed(`PostgreSQL (pid ${pid}) in ${cluster} belongs to no server and can't be stopped`);
}
