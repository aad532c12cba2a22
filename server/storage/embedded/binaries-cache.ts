import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { isPrivate } from './directories.ts';
import { errorCode, failed, ifPresent } from './error.ts';
import { isRoot } from './run-user.ts';
import type { Log } from './types.ts';

/**
 * Copies `native` into the cache, with the links that npm can't pack. Two processes may do that at once: each
 * makes its own copy, and one of them gets the name.
 * @returns the copy's directory
 */
export async function copyToCache(
  native: string,
  cacheRoot: string,
  name: string,
  usable: (directory: string) => Promise<boolean>,
  log: Log,
): Promise<string> {
  await makePrivate(cacheRoot);
  const target = join(cacheRoot, name);
  if (await usable(target)) return target;
  await removeAbandoned(cacheRoot, name);
  const copy = await mkdtemp(join(cacheRoot, `${name}.tmp-`));
  try {
    await cp(native, copy, { recursive: true, verbatimSymlinks: true, filter: isNeeded });
    await makeLinks(native, copy);
    await makeReadable(copy);
    await takeName(copy, target, usable);
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
  log('copied the PostgreSQL binaries', { from: native, to: target });
  return target;
}

/** Others who could write here could have us run programs of theirs. */
async function makePrivate(cacheRoot: string): Promise<void> {
  // Root's copy is run by another user.
  const mode = isRoot() ? 0o755 : 0o700;
  await mkdir(dirname(cacheRoot), { recursive: true });
  await mkdir(cacheRoot, { mode }).then(
    () => chmod(cacheRoot, mode),
    (error) => {
      if (errorCode(error) !== 'EEXIST') throw error;
    },
  );
  if (!(await isPrivate(cacheRoot))) throw failed('other users could write here');
}

const isNeeded = (path: string) => !path.endsWith('.a') && !path.endsWith(`${sep}pkgconfig`);

/** `pg-symlinks.json` names both ends from the package's root, `native/…`. */
async function makeLinks(native: string, copy: string): Promise<void> {
  const text = await ifPresent(readFile(join(native, 'pg-symlinks.json'), 'utf8'));
  for (const { source, target } of JSON.parse(text ?? '[]') as { source: string; target: string }[]) {
    const link = inside(copy, target);
    await rm(link, { force: true });
    await symlink(relative(dirname(link), inside(copy, source)), link);
  }
}

function inside(copy: string, packed: string): string {
  const path = resolve(copy, packed.replace(/^native\//, ''));
  if (!path.startsWith(copy + sep)) throw failed(`${packed} leads out of the package`);
  return path;
}

/** A strict umask at installation must not keep the user that runs PostgreSQL out. */
async function makeReadable(directory: string): Promise<void> {
  await chmod(directory, 0o755);
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isSymbolicLink()) continue;
    const executable = entry.isDirectory() || ((await stat(path)).mode & 0o111) !== 0;
    await chmod(path, executable || entry.parentPath.endsWith(`${sep}bin`) ? 0o755 : 0o644);
  }
}

async function takeName(
  copy: string,
  target: string,
  usable: (path: string) => Promise<boolean>,
): Promise<void> {
  if (await tryRename(copy, target)) return;
  if (await usable(target)) return;
  const broken = `${copy}-broken`;
  await tryRename(target, broken);
  await rm(broken, { recursive: true, force: true });
  await tryRename(copy, target);
}

async function tryRename(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(errorCode(error) ?? '')) return false;
    throw error;
  }
}

/** Copies that a killed process left behind; a copy takes seconds, never an hour. */
async function removeAbandoned(cacheRoot: string, name: string): Promise<void> {
  for (const entry of await readdir(cacheRoot)) {
    if (!entry.startsWith(`${name}.tmp-`)) continue;
    const path = join(cacheRoot, entry);
    const found = await ifPresent(stat(path));
    if (found && Date.now() - found.mtimeMs > 3_600_000) await rm(path, { recursive: true, force: true });
  }
}
