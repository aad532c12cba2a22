import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { host } from '../../../config/host.ts';
import { failed } from './error.ts';

export interface RunUser {
  readonly uid: number;
  readonly gid: number;
}

export interface Outcome {
  readonly ok: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

export const isRoot = () => process.geteuid?.() === 0;

/**
 * PostgreSQL refuses to run as root. `owner` is the owner of a data directory that exists already: whoever
 * made it has to run it.
 * @returns undefined for "as ourselves"
 */
export async function chooseRunUser(owner: RunUser | undefined): Promise<RunUser | undefined> {
  if (!isRoot()) return undefined;
  if (owner && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid };
  const passwd = await readFile('/etc/passwd', 'utf8');
  const user = findUser(passwd, 'postgres') ?? findUser(passwd, 'nobody');
  if (user) return user;
  throw failed(
    'PostgreSQL does not run as root, and this system has neither a user "postgres" nor "nobody": ' +
      'start the server as another user, or set DATABASE_URL',
  );
}

function findUser(passwd: string, name: string): RunUser | undefined {
  const fields = passwd
    .split('\n')
    .find((line) => line.startsWith(`${name}:`))
    ?.split(':');
  const [uid, gid] = [Number(fields?.[2]), Number(fields?.[3])];
  return uid > 0 && Number.isInteger(gid) ? { uid, gid } : undefined;
}

/** Nothing of our environment goes to PostgreSQL: PGDATA or PGPORT would change it, secrets have no place there. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  return { PATH: host.path, LC_ALL: 'C', TZ: 'UTC' };
}

/** Runs a program to its end, without a shell. Never rejects: a program that isn't there is `ok: false`. */
export function run(user: RunUser | undefined, file: string, args: readonly string[]): Promise<Outcome> {
  const options = { ...user, cwd: '/', env: cleanEnvironment(), timeout: 300_000, maxBuffer: 4 << 20 };
  return new Promise((resolve) => {
    try {
      execFile(file, args, options, (error, stdout, stderr) =>
        resolve({ ok: error === null, stdout, stderr: stderr.trim() || (error?.message ?? '') }),
      );
    } catch (error) {
      resolve({ ok: false, stdout: '', stderr: error instanceof Error ? error.message : String(error) });
    }
  });
}

/**
 * Whether the user gets through `directory` (a real path) and everything above it. By the modes alone: an
 * access list that says more only costs the detour over another directory.
 */
export async function canTraverse(user: RunUser | undefined, directory: string): Promise<boolean> {
  if (!user) return true;
  for (let path = directory; ; path = dirname(path)) {
    const { uid, gid, mode } = await stat(path);
    const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) return false;
    if (path === dirname(path)) return true;
  }
}
