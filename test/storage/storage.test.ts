import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAdapterFactory } from '../../server/oidc/adapter.ts';
import { createDatabase, type Database } from '../../server/storage/database.ts';
import { migrate, pendingMigrations } from '../../server/storage/migrations.ts';
import { createStores } from '../../server/storage/stores.ts';
import { createHarness, type Harness, postForm } from '../support/harness.ts';
import { createOwnDatabase } from '../support/own-database.ts';

let harness: Harness;
const statuses: number[] = [];
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(async () => {
  expect(statuses).not.toContain(500);
  await harness.close();
});

describe('artifacts', () => {
  const adapter = (kind: string) =>
    createAdapterFactory({
      ...harness.stores,
      sealer: harness.sealer,
      signingAlg: 'ES256',
      clock: () => new Date(),
    })(kind);

  it('are consumed by one of fifty at once', async () => {
    const idDigest = randomBytes(32);
    const kind = 'AuthorizationCode';
    await harness.stores.artifacts.upsert({
      kind,
      idDigest,
      payload: 'x',
      uidDigest: null,
      grantDigest: null,
      expiresAt: new Date(Date.now() + 60_000),
    });
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => harness.stores.artifacts.consume(kind, idDigest, new Date())),
    );
    expect(answers.filter(Boolean)).toHaveLength(1);
    expect((await harness.stores.artifacts.find(kind, idDigest, new Date()))?.consumedAt).toBeInstanceOf(
      Date,
    );
  });

  it('are found until they expire, and swept in batches', async () => {
    const { artifacts } = harness.stores;
    const idDigest = randomBytes(32);
    const expiresAt = new Date(Date.now() + 60_000);
    await artifacts.upsert({
      kind: 'Session',
      idDigest,
      payload: 'x',
      uidDigest: idDigest,
      grantDigest: idDigest,
      expiresAt,
    });
    expect(await artifacts.find('Session', idDigest, new Date())).toMatchObject({ payload: 'x' });
    expect(await artifacts.find('RefreshToken', idDigest, new Date())).toBeUndefined();
    expect(await artifacts.find('Session', idDigest, expiresAt)).toBeUndefined();
    expect(await artifacts.findByUid('Session', idDigest, expiresAt)).toBeUndefined();
    for (let n = 0; n < 5; n += 1) {
      await artifacts.upsert({
        kind: 'Old',
        idDigest: randomBytes(32),
        payload: 'x',
        uidDigest: null,
        grantDigest: null,
        expiresAt: new Date(0),
      });
    }
    expect(await artifacts.deleteExpired(new Date(), 3)).toBe(5);
    await artifacts.deleteByGrant(idDigest);
    expect(await artifacts.find('Session', idDigest, new Date())).toBeUndefined();
  });

  it('are stored under digests, their payload sealed', async () => {
    const [value, uid, grantId] = ['value-', 'uid-', 'grant-'].map(
      (text) => text + randomBytes(16).toString('hex'),
    );
    const store = adapter('RefreshToken');
    await store.upsert(String(value), { jti: value, uid, grantId, accountId: 'somebody-known' } as never, 60);
    expect(await store.find(String(value))).toMatchObject({ uid, grantId });
    const [row] = await harness.database.knex('oidc_artifacts').where({ kind: 'RefreshToken' });
    expect(row.id_digest).toEqual(createHash('sha256').update(String(value)).digest());
    const dumped = await dump(harness.database);
    for (const secret of [value, uid, grantId, 'somebody-known']) expect(dumped).not.toContain(secret);
  });
});

/** Every table as text, bytes both as hexadecimal and as characters. */
async function dump({ knex }: Database): Promise<string> {
  const { rows: tables } = await knex.raw(
    "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'",
  );
  let text = '';
  for (const { name } of tables) {
    for (const row of await knex(name)) {
      for (const value of Object.values(row)) {
        text += `${Buffer.isBuffer(value) ? `${value.toString('hex')} ${value.toString('latin1')}` : JSON.stringify(value)}\n`;
      }
    }
  }
  return text;
}

it('keeps no secret in the clear, in no table', async () => {
  const authorization = `Bearer ${await harness.build.machineJwt()}`;
  const post = async (path: string, body: unknown) => {
    const response = await fetch(`${harness.url}/admin${path}`, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    statuses.push(response.status);
    expect(response.ok).toBe(true);
    return (await response.json()) as Record<string, string>;
  };
  const password = 'a password of mine';
  const user = await post('/users', { email: 'dump@example.com', name: 'Dump', password });
  const organization = await harness.build.organization();
  await harness.stores.memberships.put(organization.id, String(user.id), 'member', new Date());
  const service = await harness.build.service();
  const { token = '' } = await post('/tokens', {
    name: 'CI',
    service: service.id,
    organization_id: organization.id,
    user_id: user.id,
  });
  const client = await post('/clients', { name: 'C', grant_types: ['client_credentials'], scope: 'admin' });
  const rotated = await post(`/clients/${client.client_id}/rotate-secret`, undefined);
  const answer = await postForm(harness.url, {
    grant_type: 'client_credentials',
    client_id: String(client.client_id),
    client_secret: String(rotated.client_secret),
  });
  statuses.push(answer.status);
  const exchanged = await postForm(harness.url, {
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token: token,
  });
  expect(exchanged.status).toBe(200);
  const { access_token } = (await exchanged.json()) as { access_token: string };
  await harness.stores.usage.close();
  const text = await dump(harness.database);
  expect(text).toContain('dump@example.com');
  expect(text).toContain(createHash('sha256').update(token).digest('hex'));
  const secrets = [
    token,
    token.slice(4),
    token.slice(8),
    password,
    String(client.client_secret),
    String(rotated.client_secret),
    access_token,
  ];
  for (const { d } of harness.keySet.privateJwks) secrets.push(String(d));
  for (const secret of secrets) {
    expect(secret.length).toBeGreaterThan(10);
    expect(text).not.toContain(secret);
    expect(text).not.toContain(Buffer.from(secret).toString('hex'));
    expect(text).not.toContain(Buffer.from(secret).toString('base64').replace(/=+$/, '').slice(0, -1));
  }
});

describe('migrations', () => {
  async function withEmptyDatabase(work: (open: () => Database) => Promise<void>) {
    const { url, drop } = await createOwnDatabase();
    const opened: Database[] = [];
    try {
      await work(() => {
        const database = createDatabase({ connectionString: url });
        opened.push(database);
        return database;
      });
    } finally {
      await Promise.all(opened.map((database) => database.close()));
      await drop();
    }
  }

  it('run once when three processes start at once on an empty database', () =>
    withEmptyDatabase(async (open) => {
      const databases = [open(), open(), open()];
      await Promise.all(databases.map(({ knex }) => migrate(knex)));
      const rows = await databases[0]?.knex('knex_migrations').select('name');
      expect(new Set(rows?.map(({ name }) => name)).size).toBe(rows?.length);
      expect(await databases[0]?.knex('platform_tokens')).toEqual([]);
    }));

  it('do without what a role may not create', () =>
    withEmptyDatabase(async (open) => {
      const { knex } = open();
      const role = `limited_${randomBytes(8).toString('hex')}`;
      // As who may make tables, and no extension.
      await knex.raw(`CREATE ROLE ${role}; GRANT CREATE, USAGE ON SCHEMA public TO ${role}`);
      const { rows: names } = await knex.raw('SELECT current_database() AS name');
      await knex.raw(`ALTER DATABASE ${names[0].name} SET role = ${role}`);
      const limited = open().knex;
      await migrate(limited);
      const { rows } = await limited.raw('SELECT current_user, extname FROM pg_extension');
      expect(rows).toEqual([{ current_user: role, extname: 'plpgsql' }]);
    }));

  it('are pending before and not after, and go on over the lock of a killed process', () =>
    withEmptyDatabase(async (open) => {
      const { knex } = open();
      expect(await pendingMigrations(knex)).toContain('20261124000000_core.ts');
      // Looking changes nothing.
      const { rows } = await knex.raw("SELECT FROM pg_tables WHERE schemaname = 'public'");
      expect(rows).toEqual([]);
      await knex.migrate.list();
      await knex('knex_migrations_lock').update({ is_locked: 1 });
      await migrate(knex);
      expect(await pendingMigrations(knex)).toEqual([]);
      await migrate(knex);
      expect(await pendingMigrations(knex)).toEqual([]);
      expect((await knex('knex_migrations_lock')).map(({ is_locked }) => is_locked)).toEqual([0]);
    }));

  it('of a newer release are no reason to stop an older one', () =>
    withEmptyDatabase(async (open) => {
      const { knex } = open();
      await migrate(knex);
      await knex('knex_migrations').insert({ name: '29990101000000_later.ts', batch: 2 });
      expect(await pendingMigrations(knex)).toEqual([]);
      await migrate(knex);
    }));

  it('run beside those of a newer release', () =>
    withEmptyDatabase(async (open) => {
      const { knex } = open();
      await knex.migrate.list();
      await knex('knex_migrations').insert({ name: '29990101000000_later.ts', batch: 1 });
      expect(await pendingMigrations(knex)).toContain('20261124000000_core.ts');
      await migrate(knex);
      expect(await pendingMigrations(knex)).toEqual([]);
    }));
});

it('looks tokens up without prepared statements once a pooler has lost one', async () => {
  const database = createDatabase({ connectionString: harness.databaseUrl, lookupPoolSize: 1 });
  const { platformTokens } = createStores(database, () => {});
  const { id } = await harness.build.platformToken();
  const prepared = async () =>
    (await database.lookups.query('SELECT 1 FROM pg_prepared_statements')).rowCount;
  expect(await platformTokens.findPresent(id)).toMatchObject({ id });
  expect(await prepared()).toBe(1);
  await database.lookups.query('DEALLOCATE ALL');
  for (let round = 0; round < 3; round += 1)
    expect(await platformTokens.findPresent(id)).toMatchObject({ id });
  expect(await prepared()).toBe(0);
  await database.close();
});
