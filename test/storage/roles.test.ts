import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { verifyChain } from '../../server/storage/audit-chain.ts';
import { createDatabase, type Database } from '../../server/storage/database.ts';
import { createStores, type Stores } from '../../server/storage/stores.ts';
import { eventWriters, month, monthName, sealWritten } from '../support/audit.ts';
import { withDatabase } from '../support/global-setup.ts';

// The other tests run as the role that serves; here is what it may not do, and how it comes to what it may.
const suffix = randomBytes(4).toString('hex');
const [owner, serving, member] = ['owner', 'serving', 'member'].map((name) => `${name}_${suffix}`) as [
  string,
  string,
  string,
];
let root: Database;
let database: Database;
let stores: Stores;
let ownerUrl: string;
const run = promisify(execFile);
const migrate = (...args: string[]) =>
  run(process.execPath, ['server/migrate.ts', ...args], {
    // And nothing else: who owns the tables has no key.
    env: { DATABASE_URL: ownerUrl },
  });
function urlOf(role: string): string {
  const url = new URL(withDatabase(inject('databaseUrl'), owner));
  url.username = role;
  url.password = role;
  return url.href;
}

beforeAll(async () => {
  root = createDatabase({ connectionString: inject('databaseUrl'), poolSize: 1, limited: false });
  for (const role of [owner, serving, member])
    await root.knex.raw(`CREATE ROLE ${role} LOGIN PASSWORD '${role}'`);
  await root.knex.raw(`GRANT ${owner} TO ${member}`);
  await root.knex.raw(`CREATE DATABASE ${owner} OWNER ${owner}`);
  ownerUrl = urlOf(owner);
  await migrate('--grant', serving);
  database = createDatabase({ connectionString: urlOf(serving) });
  stores = createStores(database, () => {});
  const write = eventWriters(stores);
  await write.audit([new Date(), month(-40)]);
  await write.exchange([new Date(), month(-20)]);
  await sealWritten(database, stores);
}, 60_000);
afterAll(async () => {
  await stores.usage.close();
  await database.close();
  await root.knex.raw(`DROP DATABASE ${owner} WITH (FORCE)`);
  for (const role of [serving, member, owner]) await root.knex.raw(`DROP ROLE ${role}`);
  await root.close();
});

const thisMonth = monthName(0);
const tables = [
  'audit_events',
  `audit_events_${thisMonth}`,
  'audit_events_default',
  'exchange_events',
  `exchange_events_${thisMonth}`,
  'exchange_events_default',
  'audit_batches',
];

describe('the role that serves', () => {
  it.each(tables)('cannot change, empty, drop or alter %s, nor its triggers', async (table) => {
    const column = table === 'audit_batches' ? 'events' : 'count';
    for (const statement of [
      `UPDATE ${table} SET ${column} = ${column}`,
      `DELETE FROM ${table}`,
      `TRUNCATE ${table}`,
      `DROP TABLE ${table}`,
      `ALTER TABLE ${table} DISABLE TRIGGER USER`,
      `ALTER TABLE ${table} DISABLE TRIGGER ALL`,
      `DROP TRIGGER audit_append_only ON ${table}`,
      `ALTER TABLE ${table} RENAME TO gone`,
      `ALTER TABLE ${table} ALTER COLUMN ${column} DROP NOT NULL`,
      `ALTER TABLE audit_events DETACH PARTITION audit_events_${thisMonth}`,
      `SET session_replication_role = replica`,
      `SET ROLE ${owner}`,
      `CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'`,
      `DROP FUNCTION audit_refuse() CASCADE`,
    ])
      await expect(database.knex.raw(statement), statement).rejects.toMatchObject({ code: '42501' });
  });

  it.each([
    [
      'names no transaction for an event',
      `INSERT INTO audit_events (id, at, action, actor_type, actor_id, xid) VALUES (gen_random_uuid(), now(), 'a.b', 'user', 'x', 1)`,
    ],
    [
      'writes no batch',
      `INSERT INTO audit_batches SELECT seq + 1, trail, month, last_xid + 1, last_at, last_id, events, events_hash, hash, hash, sealed_at FROM audit_batches`,
    ],
    [
      'seals nothing of its own choice',
      `SELECT audit_seal_next('audit_events', 'true', 'e.id', 0, now(), gen_random_uuid(), 1, 1)`,
    ],
    ['takes no trigger off', `SELECT audit_protect('audit_events')`],
    [
      'writes into no partition by itself',
      `INSERT INTO audit_events_default (id, at, action, actor_type, actor_id) VALUES (gen_random_uuid(), now(), 'a.b', 'user', 'x')`,
    ],
    ['marks no migration as applied', `DELETE FROM knex_migrations`],
    ['makes no table', 'CREATE TABLE public.mine (id int)'],
    ['deletes no last use', 'DELETE FROM platform_token_uses'],
    [
      'makes no last use of a token that is none',
      'INSERT INTO platform_token_uses VALUES (gen_random_uuid(), gen_random_uuid())',
    ],
    [
      "gives a token's use to no other organization",
      'UPDATE platform_token_uses SET organization_id = gen_random_uuid()',
    ],
  ])('%s', async (_, statement) => {
    await expect(database.knex.raw(statement)).rejects.toMatchObject({ code: '42501' });
  });

  it('drops no month before its time, whatever it calls, and by whatever operators', async () => {
    // Two are due.
    while ((await stores.auditTrail.deleteExpired()) > 0);
    const before = await partitions();
    for (const call of [
      "SELECT audit_drop_partition('audit_events')",
      "SELECT audit_drop_partition('users')",
      "SELECT audit_drop_partition('audit_events; DROP TABLE users')",
      "CREATE FUNCTION pg_temp.audit_retention_months(text) RETURNS integer LANGUAGE sql AS 'SELECT 0'; SET search_path = pg_temp, public; SELECT public.audit_drop_partition('audit_events')",
      "SET timezone = 'Pacific/Kiritimati'; SELECT audit_drop_partition('exchange_events')",
    ])
      await database.knex.transaction((transaction) => transaction.raw(call)).catch(() => {});
    expect(await partitions()).toEqual(before);
  });

  it('makes and drops months as the sweep does, seals, and verifies', async () => {
    await eventWriters(stores).audit([month(-50)]);
    await sealWritten(database, stores);
    expect(await stores.auditTrail.deleteExpired()).toBe(1);
    expect(await verifyChain(database.knex)).toMatchObject({ fault: undefined, retired: 3, events: 2 });
  });
});

const partitions = async (): Promise<string[]> => {
  const { rows } = await database.knex.raw(
    "SELECT inhrelid::regclass::text AS name FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE c.relkind = 'r' ORDER BY 1",
  );
  return rows.map(({ name }: { name: string }) => name);
};

describe('the owner', () => {
  it('is refused by the triggers, a replica too', async () => {
    const one = createDatabase({ connectionString: ownerUrl, poolSize: 1 });
    const superuser = createDatabase({
      connectionString: withDatabase(inject('databaseUrl'), owner),
      poolSize: 1,
    });
    const refused = { code: '42501', message: expect.stringContaining('the audit trail only grows') };
    for (const { knex } of [one, superuser]) {
      for (const table of tables) {
        await expect(knex.raw(`TRUNCATE ${table}`)).rejects.toMatchObject(refused);
        if (table.endsWith('_default')) continue;
        const column = table === 'audit_batches' ? 'events' : 'count';
        await expect(knex.raw(`UPDATE ${table} SET ${column} = ${column} + 1`)).rejects.toMatchObject(
          refused,
        );
        await expect(knex.raw(`DELETE FROM ${table}`)).rejects.toMatchObject(refused);
      }
      await expect(knex.raw('TRUNCATE users CASCADE')).resolves.toBeDefined();
    }
    await superuser.knex.raw('SET session_replication_role = replica');
    await expect(superuser.knex.raw(`DELETE FROM audit_events_${thisMonth}`)).rejects.toMatchObject(refused);
    await Promise.all([one.close(), superuser.close()]);
  });
});

describe('npm run migrate -- --grant', () => {
  it.each([
    [() => member, /owns the tables.*or is a member/],
    [() => owner, /owns the tables.*or is a member/],
    [() => 'nobody_of_this_name', /there is no role/],
    [() => new URL(inject('databaseUrl')).username, /is a superuser/],
  ])('refuses a role that could undo it', async (role, reason) => {
    await expect(migrate('--grant', role())).rejects.toMatchObject({ stderr: expect.stringMatching(reason) });
  });

  it.each([
    [
      `ALTER DATABASE ${owner} OWNER TO ${serving}`,
      `ALTER DATABASE ${owner} OWNER TO ${owner}`,
      /or the database/,
    ],
    [`ALTER ROLE ${serving} CREATEROLE`, `ALTER ROLE ${serving} NOCREATEROLE`, /may create roles/],
  ])('refuses a role that could drop the tables or join their owner: %s', async (give, take, reason) => {
    await root.knex.raw(give);
    await expect(migrate('--grant', serving)).rejects.toMatchObject({
      stderr: expect.stringMatching(reason),
    });
    await root.knex.raw(take);
    await expect(migrate('--grant', serving)).resolves.toBeDefined();
  });

  it('takes back what the role has too much, at any time', async () => {
    const one = createDatabase({ connectionString: ownerUrl, poolSize: 1 });
    await one.knex.raw(
      `GRANT ALL ON audit_events, audit_events_default, audit_batches, knex_migrations TO ${serving}`,
    );
    await one.close();
    await migrate('--grant', serving);
    for (const table of ['audit_events', 'audit_events_default', 'audit_batches', 'knex_migrations'])
      await expect(database.knex.raw(`DELETE FROM ${table}`)).rejects.toMatchObject({
        message: expect.stringContaining('permission denied'),
      });
  });
});
