import { afterAll, beforeAll, expect, it } from 'vitest';
import { createHarness, exchange, type Harness } from '../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(() => harness.close());

it('gives a reason too where the database answers, but not about the keys', async () => {
  await harness.owner.knex.raw('ALTER TABLE signing_keys RENAME TO elsewhere');
  const ready = await fetch(`${harness.url}/health/ready`);
  expect([ready.status, await ready.json()]).toEqual([503, { status: 'unavailable', reasons: ['database'] }]);
  await harness.owner.knex.raw('ALTER TABLE elsewhere RENAME TO signing_keys');
  expect((await fetch(`${harness.url}/health/ready`)).status).toBe(200);
});

it('looks once however many ask, and takes nothing from exchanges beside it', async () => {
  const { token } = await harness.build.platformToken();
  let queries = 0;
  const count = () => {
    queries += 1;
  };
  harness.database.knex.on('query', count);
  const ready = Array.from({ length: 500 }, () => fetch(`${harness.url}/health/ready`));
  const exchanges = Array.from({ length: 50 }, () => exchange(harness.url, token));
  const statuses = await Promise.all([...ready, ...exchanges].map(async (one) => (await one).status));
  harness.database.knex.off('query', count);
  expect(new Set(statuses)).toEqual(new Set([200]));
  expect(queries).toBeLessThan(250);
});
