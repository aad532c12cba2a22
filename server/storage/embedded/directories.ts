import { randomBytes, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import {
  chmod,
  chown,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
} from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, parse } from 'node:path';
import type { Context } from './context.ts';
import { errorCode, failed, ifPresent } from './error.ts';
import { canTraverse, chooseRunUser, type RunUser } from './run-user.ts';
import type { Log } from './types.ts';

export interface Place {
  readonly dataDir: string;
  readonly cluster: string;
  readonly user: RunUser | undefined;
}

const detour = '/var/lib/platform-tokens';

/** Makes DATA_DIR and finds out who runs PostgreSQL, and where that user can keep the data. */
export async function preparePlace(path: string, log: Log): Promise<Place> {
  const dataDir = await makeDataDir(path, log);
  const existing = await ifPresent(stat(join(dataDir, 'postgres')));
  const user = await chooseRunUser(existing);
  const reachable = (await canTraverse(user, dirname(dataDir))) && (await handOver(dataDir, user));
  return { dataDir, cluster: await clusterPath(dataDir, user, reachable), user };
}

async function makeDataDir(path: string, log: Log): Promise<string> {
  await mkdir(dirname(path), { recursive: true });
  await mkdir(path, { mode: 0o700 }).catch((error) => {
    if (errorCode(error) !== 'EEXIST') throw error;
  });
  const dataDir = await realpath(path);
  const { mode } = await stat(dataDir);
  await refuseShared(dataDir, mode);
  if ((mode & 0o777) !== 0o700) {
    // A mounted volume may belong to someone else; what is secret has a mode of its own.
    await chmod(dataDir, 0o700).catch((error) =>
      log('could not make DATA_DIR private', { error: `${error}` }),
    );
  }
  return dataDir;
}

/** DATA_DIR gets another mode and owner: that would break a home directory or /tmp for everyone else. */
async function refuseShared(dataDir: string, mode: number): Promise<void> {
  const sticky = (mode & 0o1000) !== 0 && (await readdir(dataDir)).length > 0;
  if (!sticky && dataDir !== parse(dataDir).root && dataDir !== homedir()) return;
  throw failed(`DATA_DIR ${dataDir} is shared with other programs: give the server a directory of its own`);
}

/** Root gets into a directory of another user, but not the other way round. */
async function handOver(dataDir: string, user: RunUser | undefined): Promise<boolean> {
  if (!user) return true;
  return chown(dataDir, user.uid, user.gid).then(
    () => true,
    () => false,
  );
}

async function clusterPath(dataDir: string, user: RunUser | undefined, reachable: boolean): Promise<string> {
  const path = join(dataDir, 'postgres');
  const found = await ifPresent(lstat(path));
  if (found?.isSymbolicLink()) {
    const target = await ifPresent(realpath(path));
    if (target) return target;
    throw failed(
      `${path} leads to a directory that is gone; remove the link to begin with an empty database`,
    );
  }
  if (reachable) return path;
  if (found)
    throw failed(`the user that runs PostgreSQL can't get to ${path}: move DATA_DIR to another place`);
  await makeDetour(path, user);
  return clusterPath(dataDir, user, reachable);
}

/** A link, so that removing DATA_DIR still means to begin anew. */
async function makeDetour(link: string, user: RunUser | undefined): Promise<void> {
  await mkdir(dirname(detour), { recursive: true });
  await mkdir(detour, { mode: 0o711 }).then(
    () => chmod(detour, 0o711),
    () => undefined,
  );
  const { uid, mode } = await lstat(detour);
  if (uid !== 0 || (mode & 0o022) !== 0) throw failed(`${detour} must belong to root alone`);
  const directory = join(detour, randomUUID());
  await mkdir(directory, { mode: 0o700 });
  if (user) await chown(directory, user.uid, user.gid);
  await symlink(directory, link).catch(async (error) => {
    await rmdir(directory);
    if (errorCode(error) !== 'EEXIST') throw error;
  });
}

/** Reads the superuser's password, or makes one where there is no database yet that would know another. */
export async function loadPassword(context: Context, clusterExists: boolean): Promise<string> {
  const path = join(context.dataDir, 'postgres-password');
  const password = (await ifPresent(readFile(path, 'utf8')))?.trim();
  if (password === undefined && !clusterExists) return createPassword(path, context.user);
  if (password === undefined || !/^[A-Za-z0-9_-]{32,}$/.test(password)) {
    throw failed(
      `${path} is missing or damaged, and the database in ${context.cluster} can't be opened without it`,
    );
  }
  if (((await stat(path)).mode & 0o777) !== 0o600) await chmod(path, 0o600);
  return password;
}

async function createPassword(path: string, user: RunUser | undefined): Promise<string> {
  const password = randomBytes(32).toString('base64url');
  const temporary = `${path}.new`;
  await rm(temporary, { force: true });
  await writePrivate(temporary, password, user);
  await rename(temporary, path);
  await syncDirectory(dirname(path));
  return password;
}

/**
 * A new file 0600, on the disk. It belongs to the user that runs PostgreSQL, so that a server started by root
 * once can be started by that user later.
 */
export async function writePrivate(path: string, text: string, user: RunUser | undefined): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    if (user) await file.chown(user.uid, user.gid);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** For the cache of binaries: whether only we, or root, can change what is below this directory. */
export async function isPrivate(directory: string): Promise<boolean> {
  const self = process.geteuid?.() ?? 0;
  const { uid, mode } = await lstat(directory);
  if ((uid !== self && uid !== 0) || (mode & 0o022) !== 0) return false;
  for (let path = dirname(directory); ; path = dirname(path)) {
    const above = await stat(path);
    // Whoever may write to a directory without the sticky bit may exchange what is in it.
    if ((above.mode & 0o1002) === 0o002) return false;
    if (path === dirname(path)) return true;
  }
}
