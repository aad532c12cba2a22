import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, cp, mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import pg from 'pg';
import { findBinaries } from '../../server/storage/embedded/binaries.ts';
import { freePort } from '../../server/storage/embedded/postmaster.ts';
import { chooseRunUser, cleanEnvironment, run } from '../../server/storage/embedded/run-user.ts';
import type { Binaries } from '../../server/storage/embedded/types.ts';

/** PostgreSQL servers that are there to be broken: the embedded one would bring itself back. */

const settings = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  // As initdb wrote it down: a standby must not have fewer.
  max_connections: '100',
  wal_keep_size: '512MB',
  shared_buffers: '64MB',
};

export interface Postgres {
  readonly url: string;
  readonly port: number;
  start(): Promise<void>;
  /** Waits for its end. */
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Its processes stand still, or go on. */
  pause(): Promise<void>;
  resume(): void;
  query(sql: string, values?: unknown[]): Promise<pg.QueryResult>;
  /** Ends a standby's recovery. */
  promote(): Promise<void>;
}

/** A primary, and a standby that follows it by streaming replication. */
export async function createPair(directory: string): Promise<{ primary: Postgres; standby: Postgres }> {
  const user = await chooseRunUser(undefined);
  const binaries = await findBinaries({ user, major: undefined, beside: directory, log() {} });
  const place = async (name: string) => {
    const path = join(directory, name);
    await mkdir(path, { mode: 0o700 });
    if (user) await chown(path, user.uid, user.gid);
    return path;
  };
  const data = await place('primary');
  const made = await run(user, binaries.initdb, [
    `--pgdata=${data}`,
    '--username=postgres',
    '--auth=trust',
    '--encoding=UTF8',
    '--locale=C',
  ]);
  if (!made.ok) throw new Error(made.stderr);
  // A cold copy is a base backup: the npm package has no pg_basebackup.
  const copy = join(directory, 'standby');
  await cp(data, copy, { recursive: true });
  await writeFile(join(copy, 'standby.signal'), '');
  if (user) {
    await run(undefined, 'chown', ['-R', `${user.uid}:${user.gid}`, copy]);
    await run(undefined, 'chmod', ['0700', copy]);
  }
  const primary = await createPostgres(binaries, user, data, {});
  const follow = `host=127.0.0.1 port=${primary.port} user=postgres application_name=standby`;
  const standby = await createPostgres(binaries, user, copy, { primary_conninfo: follow });
  await primary.start();
  await standby.start();
  return { primary, standby };
}

async function createPostgres(
  binaries: Binaries,
  user: { uid: number; gid: number } | undefined,
  data: string,
  more: Record<string, string>,
): Promise<Postgres> {
  const port = await freePort();
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  let child: ChildProcess | undefined;
  let paused: number[] = [];

  async function query(sql: string, values: unknown[] = []): Promise<pg.QueryResult> {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
    client.on('error', () => {});
    await client.connect();
    try {
      return await client.query(sql, values);
    } finally {
      await client.end();
    }
  }

  /** Whoever was killed leaves processes behind for a moment, and no other may start beside them. */
  async function start(): Promise<void> {
    const words = Object.entries({ ...settings, ...more, port: String(port) });
    const args = ['-D', data, ...words.flatMap(([name, value]) => ['-c', `${name}=${value}`])];
    const log = await open(`${data}.log`, 'a');
    for (const until = Date.now() + 60_000; Date.now() < until; await setTimeout(100)) {
      if (!child || child.exitCode !== null || child.signalCode !== null) {
        const env = cleanEnvironment();
        child = spawn(binaries.postgres, args, { ...user, cwd: '/', env, stdio: ['ignore', log.fd, log.fd] });
      }
      if (await query('SELECT 1').then(Boolean, () => false)) {
        await log.close();
        return;
      }
    }
    throw new Error(`PostgreSQL does not start: ${(await readFile(`${data}.log`, 'utf8')).slice(-1000)}`);
  }

  return {
    url,
    port,
    start,
    query,
    async kill(signal) {
      if (!child || child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill(signal);
      await ended;
    },
    async pause() {
      const { rows } = await query('SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()');
      paused = [child?.pid, ...rows.map(({ pid }) => pid)].filter((pid) => typeof pid === 'number');
      for (const pid of paused) signalIfThere(pid, 'SIGSTOP');
    },
    resume() {
      for (const pid of paused) signalIfThere(pid, 'SIGCONT');
    },
    async promote() {
      await query('SELECT pg_promote(true, 30)');
    },
  };
}

function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended by itself.
  }
}
