import { randomBytes } from 'node:crypto';
import { open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from './context.ts';
import { EmbeddedPostgresError } from './error.ts';
import { pause, startTime } from './processes.ts';

const prefix = '.starting-';

/**
 * One start at a time per data directory. The database's own lock can't do this, as there is no database yet.
 *
 * Everyone creates a file of their own, whose name says which process it belongs to, and only then looks for
 * others: of two, the later one sees the earlier one's file and takes its own away again. Names never repeat,
 * so removing a dead process's file can't hit a newcomer's, as it could with one file for all.
 */
export async function withStartLock<T>(
  { dataDir, signal }: Pick<Context, 'dataDir' | 'signal'>,
  patience: number,
  work: () => Promise<T>,
): Promise<T> {
  const identity = `${process.pid}-${(await startTime(process.pid)) ?? '0'}`;
  const mine = `${prefix}${identity}-${randomBytes(6).toString('hex')}`;
  const deadline = Date.now() + patience;
  while (!(await tryEnter(dataDir, mine))) {
    if (Date.now() > deadline) throw inUse(dataDir);
    await pause(50 + Math.random() * 150, signal);
  }
  try {
    return await work();
  } finally {
    await rm(join(dataDir, mine), { force: true });
  }
}

export function inUse(dataDir: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'in_use',
    `another server is using the data directory ${dataDir}: stop it, or give this one another DATA_DIR`,
  );
}

async function tryEnter(directory: string, mine: string): Promise<boolean> {
  if (await anyoneElse(directory, mine)) return false;
  await (await open(join(directory, mine), 'wx', 0o600)).close();
  if (!(await anyoneElse(directory, mine))) return true;
  await rm(join(directory, mine), { force: true });
  return false;
}

async function anyoneElse(directory: string, mine: string): Promise<boolean> {
  const others = (await readdir(directory)).filter((name) => name.startsWith(prefix) && name !== mine);
  let alive = false;
  for (const name of others) {
    const [pid, started] = name.slice(prefix.length).split('-');
    if (started !== undefined && (await startTime(Number(pid))) === started) alive = true;
    else await rm(join(directory, name), { force: true });
  }
  return alive;
}
