import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { createDatabase } from '../../server/storage/database.ts';
import { createHarness, exchange, type Harness } from '../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(() => harness.close());

it('answers 503 while PostgreSQL itself refuses connections, and recovers', async () => {
  const { token } = await harness.build.platformToken();
  const jwt = await harness.build.machineJwt();
  const admin = () => fetch(`${harness.url}/admin/tokens`, { headers: { authorization: `Bearer ${jwt}` } });
  const name = new URL(harness.databaseUrl).pathname.slice(1);
  const root = createDatabase({
    connectionString: inject('databaseUrl'),
    poolSize: 1,
  });
  await root.knex.raw(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
  await root.knex.raw('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ?', [name]);

  const refused = await exchange(harness.url, token);
  expect([refused.status, refused.headers.get('retry-after'), await refused.json()]).toEqual([
    503,
    '2',
    { error: 'temporarily_unavailable', error_description: expect.any(String) },
  ]);
  expect((await admin()).status).toBe(503);
  expect((await fetch(`${harness.url}/health/ready`)).status).toBe(503);
  expect((await fetch(`${harness.url}/oauth/jwks`)).status).toBe(200);

  await root.knex.raw(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
  await root.close();
  expect((await exchange(harness.url, token)).status).toBe(200);
  expect((await admin()).status).toBe(200);
});
