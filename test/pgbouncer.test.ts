import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decodeProtectedHeader } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase } from '../server/storage/database.ts';
import { createStores } from '../server/storage/stores.ts';
import { createTestDatabase, exchange, findFreePort, kek } from './support/harness.ts';
import { administrator, createProcesses, type Processes, type Started, stop } from './support/processes.ts';

/** The server behind PgBouncer in transaction mode, with the lines that docs/operating.md gives. */

const version = pgBouncerVersion();
if (!version && process.env.REQUIRE_PGBOUNCER) throw new Error('pgbouncer is not installed');
if (!version) process.stderr.write('pgbouncer is not on the path: the server is NOT tested behind it\n');

function pgBouncerVersion(): number | undefined {
  // Debian's is where only root's path leads.
  process.env.PATH = `${process.env.PATH}:/usr/sbin`;
  try {
    const [, major, minor] = /PgBouncer (\d+)\.(\d+)/.exec(
      execFileSync('pgbouncer', ['--version'], { encoding: 'utf8' }),
    ) as RegExpExecArray;
    return Number(major) * 1000 + Number(minor);
  } catch {
    return undefined;
  }
}
const knowsPrepared = (version ?? 0) >= 1021;

interface PgBouncer {
  readonly url: string;
  close(): Promise<void>;
}

async function startPgBouncer(
  databaseUrl: string,
  change: (ini: string) => string = (ini) => ini,
): Promise<PgBouncer> {
  const documented = /```ini\n([^`]*)```/.exec(await readFile('docs/operating.md', 'utf8'))?.[1] as string;
  const { hostname, port, pathname, username, password } = new URL(databaseUrl);
  const target = `host=${hostname} port=${port} dbname=${pathname.slice(1)} user=${username} password=${password}`;
  const listenPort = await findFreePort();
  const ini = `${documented.replace(/host=\S+ port=\S+ dbname=\S+/, target)}
auth_type = any
listen_addr = 127.0.0.1
listen_port = ${listenPort}
unix_socket_dir =
${process.getuid?.() === 0 ? 'user = nobody' : ''}
`;
  const directory = await mkdtemp(join(tmpdir(), 'platform-tokens-pgbouncer-'));
  await chmod(directory, 0o755);
  const file = join(directory, 'pgbouncer.ini');
  await writeFile(file, change(knowsPrepared ? ini : ini.replace(/^max_prepared_statements.*\n/m, '')));
  const child: ChildProcess = spawn('pgbouncer', [file], { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr?.on('data', (chunk) => (log += chunk));
  for (;;) {
    if (child.exitCode !== null) throw new Error(`pgbouncer ended: ${log}`);
    const socket = connect(listenPort, '127.0.0.1');
    const open = await Promise.race([
      once(socket, 'connect').then(() => true),
      once(socket, 'error').then(() => false),
    ]).catch(() => false);
    socket.destroy();
    if (open) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    url: `postgres://any@127.0.0.1:${listenPort}/platform_tokens`,
    async close() {
      // It holds nothing, and what SIGTERM means to it depends on its version.
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      await rm(directory, { recursive: true });
    },
  };
}

const kinds: [string, (ini: string) => string][] = [
  [knowsPrepared ? 'with the documented lines' : 'of a version without prepared statements', (ini) => ini],
];
if (knowsPrepared) {
  const none = (ini: string) => ini.replace(/^(max_prepared_statements) = .*$/m, '$1 = 0');
  kinds.push(['without prepared statements', none]);
}

describe.skipIf(!version).each(kinds)('behind PgBouncer %s', (_kind, change) => {
  const adminSecret = 'an-admin-secret-of-32-characters-or-more';
  let pgBouncer: PgBouncer;
  let processes: Processes;
  let direct: Awaited<ReturnType<typeof createTestDatabase>>;
  let one: Started;
  let other: Started;
  let admin: Awaited<ReturnType<typeof administrator>>;
  let env: NodeJS.ProcessEnv;

  beforeAll(async () => {
    direct = await createTestDatabase();
    await direct.database.knex.raw('DROP SCHEMA public CASCADE');
    await direct.database.knex.raw('CREATE SCHEMA public');
    pgBouncer = await startPgBouncer(direct.url, change);
    processes = await createProcesses();
    env = {
      DATABASE_URL: pgBouncer.url,
      KEY_ENCRYPTION_KEY: kek.toString('base64url'),
      ADMIN_CLIENT_SECRET: adminSecret,
    };
    // Several at once, as a deployment may run them.
    const migrations = [1, 2, 3].map(() => processes.launch(env, ['server/migrate.ts']));
    const codes = await Promise.all(migrations.map(async ({ child }) => (await once(child, 'close'))[0]));
    expect(codes).toEqual([0, 0, 0]);
    [one, other] = await Promise.all([processes.start(env), processes.start({ ...env, WORKERS: '2' })]);
    admin = await administrator(one.url, adminSecret);
    const service = { id: 'tms', name: 'TMS', audience: 'https://tms.example.com', scopes: ['tms:read'] };
    await admin.post('/admin/services', service);
  }, 120_000);
  afterAll(async () => {
    await processes?.close();
    await pgBouncer?.close();
    await direct?.drop();
  });

  const create = ({ organizationId, userId }: { organizationId: string; userId: string }) =>
    admin.post('/admin/tokens', {
      name: 'CI',
      service: 'tms',
      organization_id: organizationId,
      user_id: userId,
    });
  async function createToken(): Promise<{ id: string; token: string }> {
    const response = await create(await admin.newMember());
    expect(response.status).toBe(201);
    return (await response.json()) as { id: string; token: string };
  }

  it('migrates, and leaves no lock behind', async () => {
    const locks = async () => {
      const { rows } = await direct.database.knex.raw(
        `SELECT l.objid FROM pg_locks l JOIN pg_database d ON d.oid = l.database
         WHERE l.locktype = 'advisory' AND d.datname = current_database()`,
      );
      return rows;
    };
    // The sealer and the sweeps hold one for a moment, now and then; what is left behind stays.
    await expect.poll(locks).toEqual([]);
    expect(await direct.database.knex('signing_keys').count()).toEqual([{ count: '1' }]);
  });

  it('exchanges, a hundred at once, and refuses what was deleted elsewhere at once', async () => {
    const { id, token } = await createToken();
    const statuses = await Promise.all(
      Array.from(
        { length: 100 },
        async (_, index) => (await exchange([one, other][index % 2]?.url ?? '', token)).status,
      ),
    );
    expect(statuses).toEqual(Array(100).fill(200));
    expect((await admin.send('DELETE', `/admin/tokens/${id}`)).status).toBe(204);
    for (let round = 0; round < 10; round += 1)
      for (const { url } of [other, one]) expect((await exchange(url, token)).status).toBe(400);
  });

  it('gives one more token where nineteen are there, of fifty that are asked for at once', async () => {
    const member = await admin.newMember();
    for (let index = 0; index < 19; index += 1) expect((await create(member)).status).toBe(201);
    const statuses = await Promise.all(Array.from({ length: 50 }, async () => (await create(member)).status));
    expect(statuses.sort()).toEqual([201, ...Array(49).fill(409)]);
  });

  it('lets a code be used once, by whichever process', async () => {
    const databases = [1, 2].map(() => createDatabase({ connectionString: pgBouncer.url }));
    const [first, second] = databases.map((database) => createStores(database, () => {}).artifacts);
    const idDigest = Buffer.alloc(32, 1);
    const expiresAt = new Date(Date.now() + 60_000);
    const code = {
      kind: 'AuthorizationCode',
      idDigest,
      payload: 'x',
      uidDigest: null,
      grantDigest: null,
      expiresAt,
    };
    await first?.upsert(code);
    const used = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        (index % 2 ? first : second)?.consume('AuthorizationCode', idDigest, new Date()),
      ),
    );
    expect(used.filter(Boolean)).toHaveLength(1);
    for (const database of databases) await database.close();
  });

  it('ends statements that take too long', async () => {
    const database = createDatabase({ connectionString: pgBouncer.url });
    const shown = await Promise.all([1, 2, 3].map(() => database.knex.raw('SHOW statement_timeout')));
    expect(shown.map(({ rows }) => rows)).toEqual(Array(3).fill([{ statement_timeout: '5s' }]));
    await database.close();
  });

  it('follows a rotation without being told', { timeout: 60_000 }, async () => {
    const { token } = await createToken();
    const signer = async ({ url }: Started) => {
      const { access_token: jwt } = (await (await exchange(url, token)).json()) as { access_token: string };
      return decodeProtectedHeader(jwt).kid;
    };
    const before = await signer(one);
    const rotation = { emergency: true, reason: 'test' };
    expect((await admin.post('/admin/signing-keys/rotate', rotation)).status).toBe(201);
    const after = await signer(one);
    expect(after).not.toBe(before);
    const ofOthers = async () => new Set(await Promise.all([other, other, other, other].map(signer)));
    await expect.poll(ofOthers, { timeout: 40_000, interval: 500 }).toEqual(new Set([after]));
  });

  it('stops in good order', async () => {
    expect(await Promise.all([stop(one), stop(other)])).toEqual([0, 0]);
    for (const { output } of [one, other]) expect(output()).not.toMatch(/"level":(50|60)/);
  });
});

it.skipIf(!version)('says what PgBouncer refuses where its settings are not as documented', async () => {
  const { url, drop } = await createTestDatabase();
  const pgBouncer = await startPgBouncer(url, (ini) => ini.replace(/^ignore_startup_parameters.*\n/m, ''));
  const processes = await createProcesses();
  try {
    const { child, output } = processes.launch({
      DATABASE_URL: pgBouncer.url,
      KEY_ENCRYPTION_KEY: kek.toString('base64url'),
      PORT: String(await findFreePort()),
    });
    expect((await once(child, 'close'))[0]).toBe(1);
    expect(output()).toMatch(/^the database of DATABASE_URL cannot be used: .*statement_timeout.*\n$/);
  } finally {
    await processes.close();
    await pgBouncer.close();
    await drop();
  }
});
