import { existsSync } from 'node:fs';
import { readFile, readlink } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { run } from './run-user.ts';

const hasProcfs = () => existsSync('/proc/self/stat');

/** Waits; rejects at once when the signal is aborted. */
export const pause = (milliseconds: number, signal?: AbortSignal): Promise<void> =>
  delay(milliseconds, undefined, signal ? { signal } : {});

/** Whether the promise settles in time. The timer keeps node alive meanwhile, as an unref'd child does not. */
export async function settlesWithin(promise: Promise<unknown>, milliseconds: number): Promise<boolean> {
  const timer = new AbortController();
  const settled = promise.then(
    () => true,
    () => true,
  );
  const late = delay(milliseconds, false, { signal: timer.signal }).catch(() => false);
  return Promise.race([settled, late]).finally(() => timer.abort());
}

/**
 * When the process started, as an opaque word: with the pid it names a process for good, as pids are given
 * out again. Undefined for a dead process and for a zombie, which holds nothing any more.
 */
export async function startTime(pid: number): Promise<string | undefined> {
  if (!hasProcfs()) return startTimeByPs(pid);
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  // The second field is the program's name, which may contain anything.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields && !/^[ZXx]/.test(fields[0] ?? 'X') ? fields[19] : undefined;
}

async function startTimeByPs(pid: number): Promise<string | undefined> {
  const { ok, stdout } = await run(undefined, 'ps', ['-o', 'stat=,lstart=', '-p', String(pid)]);
  const [state, ...started] = stdout.trim().split(/\s+/);
  return ok && state && !state.startsWith('Z') ? started.join('').replace(/\W/g, '') : undefined;
}

/** Whether any process, a zombie too, has the pid: PostgreSQL itself looks no further than this. */
export function pidTaken(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** Whether the pid is alive and a PostgreSQL server on exactly this data directory. */
export async function isPostmasterOf(pid: number, cluster: string): Promise<boolean> {
  if ((await startTime(pid)) === undefined) return false;
  if (!hasProcfs()) return isPostmasterByPs(pid, cluster);
  const [program, ...args] = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
  if (!/^(postgres|postmaster)$/.test(basename(program ?? ''))) return false;
  if (args[args.indexOf('-D') + 1] === cluster) return true;
  return (await readlink(`/proc/${pid}/cwd`).catch(() => undefined)) === cluster;
}

async function isPostmasterByPs(pid: number, cluster: string): Promise<boolean> {
  const { ok, stdout } = await run(undefined, 'ps', ['-ww', '-o', 'command=', '-p', String(pid)]);
  return ok && /postgres|postmaster/.test(stdout) && stdout.includes(cluster);
}
