import { afterAll, beforeAll, expect, it } from 'vitest';
import { createHarness, type Harness } from '../support/harness.ts';

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
