import { afterAll, beforeAll, expect, it } from 'vitest';
import { verifyChain } from '../../server/storage/audit-chain.ts';
import type { Database } from '../../server/storage/database.ts';
import { migrate } from '../../server/storage/migrations.ts';
import { createStores } from '../../server/storage/stores.ts';
import { month, sealWritten } from '../support/audit.ts';
import { createEmptyDatabase, migrateTo } from '../support/migrations.ts';

let database: Database;
let drop: () => Promise<void>;
beforeAll(async () => {
  ({ database, drop } = await createEmptyDatabase());
});
afterAll(() => drop());

// As the release before sends them.
const auditInsert = `INSERT INTO audit_events (id, at, action, actor_type, actor_id, organization_id, token_id, target_id, ip, user_agent, request_id, reason)
  SELECT gen_random_uuid(), ?, 'test.done', 'user', 'x', NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM generate_series(1, ?)`;
const exchangeInsert = `INSERT INTO exchange_events (id, at, organization_id, token_id, service_id, ip, user_agent, request_id, count)
  SELECT gen_random_uuid(), ?, gen_random_uuid(), gen_random_uuid(), 'tms', NULL, NULL, NULL, 1 FROM generate_series(1, ?)
  ON CONFLICT DO NOTHING`;

it('keeps every event while the release before writes on, whoever holds the table; and seals what was there', async () => {
  const { knex } = database;
  await migrateTo(knex, '20261124190000_name_trigrams.ts');
  let [audited, exchanged] = [0, 0];
  const write = async (at: Date, count: number) => {
    await knex.raw(auditInsert, [at, count]);
    await knex.raw(exchangeInsert, [at, count]);
    audited += count;
    exchanged += count;
  };
  for (const from of [-40, -14, -1, 0, 1]) await write(month(from), 300);
  const held = await knex.transaction();
  await held.raw('SELECT count(*) FROM audit_events; SELECT count(*) FROM exchange_events');
  setTimeout(() => void held.commit(), 1_000);
  let writing = true;
  const times: number[] = [];
  const writer = (async () => {
    while (writing) {
      const sent = Date.now();
      await write(new Date(), 1);
      times.push(Date.now() - sent);
    }
  })();
  await migrate(knex);
  writing = false;
  await writer;
  await write(new Date(), 1);
  expect(times.length).toBeGreaterThan(10);
  expect(Math.max(...times)).toBeLessThan(2_000);
  for (const [table, count] of [
    ['audit_events', audited],
    ['exchange_events', exchanged],
    ['audit_trail', audited + exchanged],
  ] as const)
    expect(await knex(table).count()).toEqual([{ count: String(count) }]);

  const stores = createStores(database, () => {});
  while ((await sealWritten(database, stores, 500)).length > 0);
  expect(await verifyChain(knex)).toMatchObject({
    fault: undefined,
    unsealed: 0,
    events: audited + exchanged,
  });
  // What was there of both is old enough in part; the partition of what was there before goes as a whole, later.
  expect(await stores.auditTrail.deleteExpired()).toBe(2);
  expect(await knex('audit_events').count()).toEqual([{ count: String(audited) }]);
  expect(await verifyChain(knex)).toMatchObject({ fault: undefined, retired: 3 });
  await stores.usage.close();
}, 60_000);

it('leads back, and forth again', async () => {
  const { knex } = database;
  const before = await knex('audit_trail').count();
  await migrateTo(knex, '20261124190000_name_trigrams.ts');
  expect(await knex('audit_trail').count()).toEqual(before);
  await migrate(knex);
  expect(await knex('audit_trail').count()).toEqual(before);
}, 60_000);
