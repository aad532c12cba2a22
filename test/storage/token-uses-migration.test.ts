import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Database } from '../../server/storage/database.ts';
import { createExchangeEvents } from '../../server/storage/exchange-events.ts';
import { migrate } from '../../server/storage/migrations.ts';
import { createEmptyDatabase, migrateTo } from '../support/migrations.ts';

let database: Database;
let drop: () => Promise<void>;
beforeAll(async () => {
  ({ database, drop } = await createEmptyDatabase());
});
afterAll(() => drop());

const schemaBefore = '20261126130000_append_only.ts';
// As the release before sends them.
const insert = `INSERT INTO platform_tokens (id, organization_id, user_id, service_id, name, digest, hint, scopes, created_at, expires_at)
  SELECT gen_random_uuid(), o.id, u.id, 'tms', 'n', sha256(random()::text::bytea), 'ptk_abcd', '{read}', now(), now() + interval '730 days'
  FROM organizations o, users u, generate_series(1, ?)`;
const use = `UPDATE platform_tokens SET last_used_at = now(), last_used_ip = '192.0.2.7'
  WHERE id IN (SELECT id FROM platform_tokens ORDER BY random() LIMIT ?)`;
// In the order of a plan, after the rows are locked in that of their ids.
const useOf = `UPDATE platform_tokens t SET last_used_at = now(), last_used_ip = '192.0.2.7'
  FROM (SELECT id FROM platform_tokens WHERE id = ANY(?) ORDER BY id FOR NO KEY UPDATE) used WHERE t.id = used.id`;
const remove =
  'DELETE FROM platform_tokens WHERE id IN (SELECT id FROM platform_tokens ORDER BY random() LIMIT ?)';

/** Tokens whose uses are not what the release before knows of them, and uses of no token. */
async function differences(): Promise<unknown[]> {
  const { rows } = await database.knex.raw(`
    SELECT t.id, u.token_id, t.last_used_at, u.last_used_at AS used_at FROM platform_tokens t
    FULL JOIN platform_token_uses u ON u.token_id = t.id
    WHERE (t.id, t.organization_id, coalesce(t.last_used_at, '-infinity'), t.last_used_ip)
      IS DISTINCT FROM (u.token_id, u.organization_id, u.last_used_at, u.last_used_ip)`);
  return rows;
}

it('copies every last use while the release before makes, uses and deletes tokens, whoever holds the table', async () => {
  const { knex } = database;
  await migrateTo(knex, schemaBefore);
  await knex.raw(`
    INSERT INTO organizations (id, name, created_at) VALUES (gen_random_uuid(), 'O', now());
    INSERT INTO users (id, email, name, kind, created_at) VALUES (gen_random_uuid(), 'u@example.com', 'U', 'person', now());
    INSERT INTO memberships SELECT o.id, u.id, 'member', now() FROM organizations o, users u;
    INSERT INTO services VALUES ('tms', 'TMS', 'https://tms', '{read}', 'active', now())`);
  // Of three batches.
  await knex.raw(insert, [25_000]);
  await knex.raw(use, [10_000]);
  const held = await knex.transaction();
  await held.raw(use, [1]);
  setTimeout(() => void held.commit(), 1_000);
  let writing = true;
  const times: number[] = [];
  const writer = (async () => {
    while (writing) {
      const sent = Date.now();
      await knex.raw(insert, [2]);
      await knex.raw(use, [50]);
      await knex.raw(remove, [1]);
      times.push(Date.now() - sent);
    }
  })();
  await migrate(knex);
  writing = false;
  await writer;
  expect(times.length).toBeGreaterThan(10);
  expect(Math.max(...times)).toBeLessThan(2_000);
  const [counted] = await knex('platform_token_uses').count({ total: '*' });
  expect(Number(counted?.total)).toBeGreaterThan(25_000);
  expect(await differences()).toEqual([]);
}, 60_000);

it('follows a token into another organization, and is made with each', async () => {
  const { knex } = database;
  await knex.raw(`
    INSERT INTO organizations (id, name, created_at) VALUES (gen_random_uuid(), 'Other', now());
    INSERT INTO memberships SELECT o.id, u.id, 'member', now() FROM organizations o, users u WHERE o.name = 'Other';
    UPDATE platform_tokens SET organization_id = (SELECT id FROM organizations WHERE name = 'Other')
      WHERE id IN (SELECT id FROM platform_tokens LIMIT 7)`);
  expect(await differences()).toEqual([]);
});

it('goes on with a copy that was given up half-way', async () => {
  const { knex } = database;
  await knex.raw(`
    ALTER TABLE platform_token_uses DROP CONSTRAINT platform_token_uses_token;
    DELETE FROM platform_token_uses WHERE token_id > '80000000-0000-0000-0000-000000000000';
    INSERT INTO platform_token_uses VALUES (gen_random_uuid(), gen_random_uuid())`);
  await knex('knex_migrations').where('name', '>', schemaBefore).delete();
  await migrate(knex);
  expect(await differences()).toEqual([]);
}, 60_000);

it('leads back with the uses since, and forth again', async () => {
  const { knex } = database;
  await knex.raw(
    `UPDATE platform_token_uses SET last_used_at = '2027-01-01', last_used_ip = '192.0.2.8'
     WHERE token_id IN (SELECT token_id FROM platform_token_uses LIMIT 5)`,
  );
  await migrateTo(knex, schemaBefore);
  const used = { last_used_at: new Date('2027-01-01'), last_used_ip: '192.0.2.8' };
  expect(await knex('platform_tokens').where(used)).toHaveLength(5);
  await knex.raw(use, [10]);
  await migrate(knex);
  expect(await differences()).toEqual([]);
}, 60_000);

it('is written by both releases at once, and neither waits for the other for ever', async () => {
  const { knex } = database;
  const events = createExchangeEvents(knex);
  const ids = await knex('platform_tokens').orderBy('id').limit(2_000).pluck('id');
  const { rows } = await knex.raw("SELECT id FROM organizations WHERE name = 'O'");
  const some = () => Array.from({ length: 200 }, () => ids[Math.floor(Math.random() * ids.length)] as string);
  const before = async () => knex.raw(useOf, [some()]);
  const present = () =>
    events.insert(
      some().map((tokenId) => ({
        id: uuidv7(),
        at: new Date(),
        organizationId: rows[0].id,
        tokenId,
        serviceId: 'tms',
        ip: '192.0.2.9',
        userAgent: null,
        requestId: null,
        count: 1,
      })),
    );
  const again = async (write: () => Promise<unknown>) => {
    for (let n = 0; n < 30; n += 1) await write();
  };
  await Promise.all([again(before), again(before), again(present), again(present)]);
}, 60_000);
