import { once } from 'node:events';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { seed } from '../seeds/demonstration.ts';
import { createDatabase } from '../server/storage/database.ts';
import { migrate } from '../server/storage/migrations.ts';
import { createTestDatabase, exchange, findFreePort, kek, postForm } from './support/harness.ts';
import {
  administrator,
  createProcesses,
  type Processes,
  printed,
  stop,
  underLoad,
} from './support/processes.ts';

let processes: Processes;
let dataDir: string;
const start: Processes['start'] = (env) => processes.start(env);
const launch: Processes['launch'] = (env, program) => processes.launch(env, program);

beforeEach(async () => {
  processes = await createProcesses();
  ({ dataDir } = processes);
});
afterEach(() => processes.close());

describe('with the embedded database', () => {
  it('exchanges the printed token, before and after a restart, and prints its secrets once', {
    timeout: 60_000,
  }, async () => {
    const first = await start();
    expect(first.output()).toContain(`Dashboard  http://localhost:${first.port}/dashboard\n`);
    const token = printed(first.output(), /subject_token=(\S+)/);
    const before = (await (await exchange(first.url, token)).json()) as { access_token: string };
    expect(before).toMatchObject({ expires_in: 14400, token_type: 'Bearer' });
    expect(await stop(first, 'SIGINT')).toBe(0);

    const second = await start({ PORT: String(first.port) });
    expect((await exchange(second.url, token)).status).toBe(200);
    const jwks = (await (await fetch(`${second.url}/oauth/jwks`)).json()) as JSONWebKeySet;
    await jwtVerify(before.access_token, createLocalJWKSet(jwks), { typ: 'at+jwt' });
    expect(second.output()).toContain(`Dashboard  http://localhost:${second.port}/dashboard\n`);
    expect(second.output()).not.toMatch(/ptk_|secret|password/);
    expect(await stop(second)).toBe(0);
  });

  it('makes nothing where the port is taken, so that the next start has its secrets to show', {
    timeout: 60_000,
  }, async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const refused = launch({ PORT: String(port) });
    expect((await once(refused.child, 'close'))[0]).toBe(1);
    expect(refused.output()).toContain('the port is taken');
    await expect(stat(dataDir)).rejects.toThrow('ENOENT');
    taken.close();
    const server = await start({ PORT: String(port) });
    const token = printed(server.output(), /subject_token=(\S+)/);
    expect((await exchange(server.url, token)).status).toBe(200);
    expect(printed(server.output(), /password (\S+)/)).toHaveLength(16);
  });

  it('shows its secrets at the first start after npm run seed too', { timeout: 60_000 }, async () => {
    const seeding = launch({}, ['server/migrate.ts', '--seed']);
    expect((await once(seeding.child, 'close'))[0]).toBe(0);
    const server = await start();
    expect(printed(server.output(), /password (\S+)/)).toHaveLength(16);
    expect(server.output()).toContain('shown this once');
    const token = printed(server.output(), /subject_token=(\S+)/);
    expect((await exchange(server.url, token)).status).toBe(200);
  });

  it.each([
    ['lost', undefined, /key-encryption-key is missing, and the signing keys \S+ were sealed with it/],
    ['empty', '', /key-encryption-key does not hold a 32-byte key/],
  ])(
    'refuses to start with its key %s, and makes no new one',
    {
      timeout: 60_000,
    },
    async (_what, text, message) => {
      await stop(await start());
      const path = join(dataDir, 'key-encryption-key');
      if (text === undefined) await rm(path);
      else await writeFile(path, text);
      const refused = launch({ PORT: String(await findFreePort()) });
      expect((await once(refused.child, 'close'))[0]).toBe(1);
      expect(refused.output()).toMatch(message);
      expect(refused.output()).not.toMatch(/^\s+at /m);
      expect(await readFile(path, 'utf8').catch(() => undefined)).toBe(text);
    },
  );

  it('keeps its secrets for its owner', { timeout: 60_000 }, async () => {
    const server = await start();
    expect((await stat(dataDir)).mode & 0o777).toBe(0o700);
    expect((await stat(join(dataDir, 'key-encryption-key'))).mode & 0o777).toBe(0o600);
    const secret = printed(server.output(), /secret (\S+)/);
    const form = {
      grant_type: 'client_credentials',
      scope: 'admin',
      client_id: 'admin',
      client_secret: secret,
    };
    expect((await postForm(server.url, form)).status).toBe(200);
  });

  it('refuses a second server on the same DATA_DIR and leaves the first alone', {
    timeout: 60_000,
  }, async () => {
    const first = await start();
    const second = launch({ PORT: String(await findFreePort()) });
    const [code] = await once(second.child, 'close');
    expect(code).toBe(1);
    expect(second.output()).toContain(dataDir);
    expect((await fetch(`${first.url}/health/ready`)).status).toBe(200);
  });

  it('loses no acknowledged token to kill -9 in the middle of creates, again and again', {
    timeout: 180_000,
  }, async () => {
    const env = { ADMIN_CLIENT_SECRET: 'an-admin-secret-of-32-characters-or-more' };
    let acknowledged: { id: string; token: string }[] = [];
    let attempts = 0;
    for (let round = 0; round < 20; round++) {
      const server = await start(env);
      const admin = await administrator(server.url, env.ADMIN_CLIENT_SECRET);
      // The tokens of the round before are all there, and exchange.
      for (const { token } of acknowledged) expect((await exchange(server.url, token)).status).toBe(200);
      acknowledged = [];
      const { organizationId, userId } = await admin.newMember();
      const creating = Array.from({ length: 19 }, async (_, index) => {
        attempts += 1;
        const response = await admin.post('/admin/tokens', {
          name: `t${index}`,
          service: 'tms',
          organization_id: organizationId,
          user_id: userId,
        });
        if (response.status === 201)
          acknowledged.push((await response.json()) as { id: string; token: string });
        if (index === round % 19) server.child.kill('SIGKILL');
      });
      await Promise.allSettled(creating);
      if (server.child.exitCode === null && server.child.signalCode === null) {
        server.child.kill('SIGKILL');
        await once(server.child, 'exit');
      }
    }
    expect(attempts).toBe(20 * 19);
    const last = await start(env);
    for (const { token } of acknowledged) expect((await exchange(last.url, token)).status).toBe(200);
    expect(await stop(last)).toBe(0);
  });

  it('finishes the requests in flight when it is told to stop', { timeout: 60_000 }, async () => {
    const server = await start(underLoad);
    const token = printed(server.output(), /subject_token=(\S+)/);
    await exchange(server.url, token);
    const answers = Array.from({ length: 50 }, () =>
      exchange(server.url, token).then((response) => response.status),
    );
    await answers[0];
    const stopped = stop(server);
    const statuses = await Promise.allSettled(answers);
    expect(await stopped).toBe(0);
    // Refused before it was accepted is fair; accepted and then dropped is not.
    const reasons = statuses.flatMap((one) =>
      one.status === 'rejected' ? [String(one.reason?.cause?.code)] : [],
    );
    expect(reasons.filter((code) => code !== 'ECONNREFUSED')).toEqual([]);
    expect(statuses.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))).toSatisfy(
      (all: number[]) => all.every((status) => status === 200),
    );
  });
});

describe('with DATABASE_URL', () => {
  const env = (url: string) => ({ DATABASE_URL: url, KEY_ENCRYPTION_KEY: kek.toString('base64url') });

  it('touches nothing embedded, seeds nothing, and takes the admin secret of the environment', {
    timeout: 30_000,
  }, async () => {
    const { url, drop, database } = await createTestDatabase();
    const secret = 'an-admin-secret-of-32-characters-or-more';
    const server = await start({ ...env(url), ADMIN_CLIENT_SECRET: secret });
    await expect(stat(dataDir)).rejects.toThrow('ENOENT');
    expect(await database.knex('organizations').count()).toEqual([{ count: '0' }]);
    expect(server.output()).not.toContain(secret);
    expect((await administrator(server.url, secret)).token).toMatch(/^eyJ/);
    await stop(server);
    expect(server.output()).not.toContain('ADMIN_CLIENT_SECRET');

    // It is no way to change it, and says so.
    const other = `another-${secret}`;
    const again = await start({ ...env(url), ADMIN_CLIENT_SECRET: other });
    await expect.poll(() => again.output()).toContain('ADMIN_CLIENT_SECRET is not the secret of this client');
    expect(again.output()).not.toContain(other);
    expect((await administrator(again.url, secret)).token).toMatch(/^eyJ/);
    await stop(again);
    await drop();
  });

  it('says that the schema is behind, and migrates only when told to', { timeout: 30_000 }, async () => {
    const { url, drop, database } = await createTestDatabase();
    await database.knex.raw('DROP SCHEMA public CASCADE');
    await database.knex.raw('CREATE SCHEMA public');
    const refused = launch({ ...env(url), PORT: String(await findFreePort()) });
    const [code] = await once(refused.child, 'close');
    expect(code).toBe(1);
    expect(refused.output()).toContain('npm run migrate');
    const server = await start({ ...env(url), MIGRATE_ON_START: 'true' });
    expect(await stop(server)).toBe(0);
    await drop();
  });

  it('is alive, and no more than that, while it comes up', { timeout: 30_000 }, async () => {
    const { url, drop, database } = await createTestDatabase();
    await database.knex.raw('DROP SCHEMA public CASCADE');
    await database.knex.raw('CREATE SCHEMA public');
    const migrating = await database.knex.transaction();
    await migrating.raw('SELECT pg_advisory_xact_lock(7301441)');
    const port = await findFreePort();
    const starting = start({
      ...env(url),
      PORT: String(port),
      ISSUER: `http://localhost:${port}/idm`,
      MIGRATE_ON_START: 'true',
    });
    const answer = async (path: string) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      return [response.status, response.headers.get('retry-after'), await response.json()];
    };
    const coming = [503, '2', { status: 'unavailable', reasons: ['starting'] }];
    await expect
      .poll(() => answer('/idm/health/live').catch(() => []))
      .toEqual([200, null, { status: 'ok' }]);
    for (const path of ['/idm/health/ready', '/idm/oauth/jwks', '/health/live', '/'])
      expect(await answer(path)).toEqual(coming);
    await migrating.rollback();
    const server = await starting;
    expect(await answer('/idm/health/live')).toEqual([200, null, { status: 'ok' }]);
    await stop(server);
    await drop();
  });

  it('says in one line that a migration fails', { timeout: 30_000 }, async () => {
    const { url, drop, database } = await createTestDatabase();
    await database.knex.raw('DROP SCHEMA public CASCADE');
    await database.knex.raw('CREATE SCHEMA public');
    await database.knex.raw('CREATE TABLE organizations (id int)');
    const port = String(await findFreePort());
    const refused = launch({ ...env(url), PORT: port, MIGRATE_ON_START: 'true' });
    expect((await once(refused.child, 'close'))[0]).toBe(1);
    expect(refused.output()).toMatch(
      /^the schema could not be migrated: .*"organizations" already exists\n$/,
    );
    await drop();
  });

  it('refuses production on a database with the development seeds', { timeout: 30_000 }, async () => {
    const { url, drop, database } = await createTestDatabase();
    await database.knex.transaction(seed);
    const production = { ...env(url), NODE_ENV: 'production', ISSUER: 'https://id.example.com' };
    const refused = launch({ ...production, HOST: '127.0.0.1', PORT: String(await findFreePort()) });
    expect((await once(refused.child, 'close'))[0]).toBe(1);
    expect(refused.output()).toContain('demonstration seeds');
    await drop();
  });

  it('says so where nobody could administer it', { timeout: 30_000 }, async () => {
    const { url, drop } = await createTestDatabase();
    const server = await start(env(url));
    await expect.poll(server.output).toContain('set ADMIN_CLIENT_SECRET');
    await stop(server);
    await drop();
  });

  it.each([
    ['refuses the connection', (url: URL) => (url.port = '1')],
    ['is not there', (url: URL) => (url.pathname = '/nowhere')],
    ['does not know the password', (url: URL) => (url.password = 'not-the-password')],
    ['has no such host', (url: URL) => (url.hostname = 'nowhere.invalid')],
    ['is given no password', (url: URL) => (url.password = '')],
    ['does not speak TLS', (url: URL) => (url.search = '?sslmode=verify-full')],
  ])(
    'says in one line that the database %s, never the password',
    { timeout: 30_000 },
    async (_how, spoil) => {
      const { url, drop } = await createTestDatabase();
      const spoilt = new URL(url);
      spoil(spoilt);
      for (const program of ['server/main.ts', 'server/migrate.ts']) {
        const refused = launch({ ...env(spoilt.href), PORT: String(await findFreePort()) }, [program]);
        expect((await once(refused.child, 'close'))[0]).toBe(1);
        expect(refused.output()).toMatch(/^the database of DATABASE_URL cannot be used: .+\n$/);
        expect(refused.output()).not.toContain(new URL(url).password);
        if (spoilt.password) expect(refused.output()).not.toContain(spoilt.password);
      }
      await drop();
    },
  );

  it('is not ready once its signing key is gone from the database', { timeout: 30_000 }, async () => {
    const { url, drop, database } = await createTestDatabase();
    const server = await start(env(url));
    await database.knex('signing_keys').delete();
    const ready = await fetch(`${server.url}/health/ready`);
    expect([ready.status, await ready.json()]).toEqual([
      503,
      { status: 'unavailable', reasons: ['signing_keys'] },
    ]);
    await stop(server);
    await drop();
  });

  it('agrees on one signing key when two instances start at once', { timeout: 30_000 }, async () => {
    const { url, drop } = await createTestDatabase();
    const database = createDatabase({ connectionString: url });
    await migrate(database.knex);
    const servers = await Promise.all([start(env(url)), start(env(url))]);
    const sets = await Promise.all(
      servers.map(async (server) => (await fetch(`${server.url}/oauth/jwks`)).text()),
    );
    expect(sets[0]).toBe(sets[1]);
    await Promise.all(servers.map((server) => stop(server)));
    await database.close();
    await drop();
  });
});

it('exits with every fault of the environment', async () => {
  const { child, output } = launch({ PORT: 'x', WORKERS: 'many' });
  const [code] = await once(child, 'close');
  expect(code).toBe(1);
  expect(output()).toMatch(/PORT .*\n.*WORKERS/);
});
