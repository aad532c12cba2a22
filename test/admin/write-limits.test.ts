import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHarness, type Harness } from '../support/harness.ts';

const clock = { now: 0 };
let harness: Harness;
beforeAll(async () => {
  const env = { RATE_LIMIT_OVERRIDES: 'admin-writes-client=20/60,admin-writes-user=5/60' };
  harness = await createHarness({ env, now: () => clock.now });
});
afterAll(async () => {
  const logs = harness.logs();
  await harness.close();
  expect(logs).not.toMatch(/"status":500|unexpected error|eyJ/);
});

const call = (method: string, path: string, jwt: string, body?: object, url = harness.url) =>
  fetch(`${url}/admin${path}`, {
    method,
    headers: { authorization: `Bearer ${jwt}`, ...(body ? { 'content-type': 'application/json' } : {}) },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
const nowhere = '/tokens/00000000-0000-7000-8000-000000000000';

describe('writes to the admin API', () => {
  it.each(['POST', 'PATCH', 'PUT', 'DELETE'])(
    'are limited by machine administrator, whatever becomes of them, and reads are not: %s',
    async (method) => {
      const jwt = await harness.build.machineJwt();
      const path = {
        POST: '/organizations',
        PATCH: '/organizations/00000000-0000-7000-8000-000000000000',
        PUT: '/organizations/00000000-0000-7000-8000-000000000000/members/00000000-0000-7000-8000-000000000000',
        DELETE: nowhere,
      }[method] as string;
      for (let n = 0; n < 20; n += 1) {
        const { status } = await call(method, path, jwt, method === 'DELETE' ? undefined : { unknown: n });
        expect([404, 422, 204]).toContain(status);
      }
      const answer = await call('POST', '/organizations', jwt, { name: 'One too many' });
      expect(answer.status).toBe(429);
      expect(answer.headers.get('content-type')).toContain('application/problem+json');
      expect(answer.headers.get('ratelimit-policy')).toBe('"admin-writes-client";q=20;w=60');
      expect(answer.headers.get('retry-after')).toMatch(/^([1-9]|[1-5]\d|60)$/);
      expect(answer.headers.get('ratelimit')).toBe(
        `"admin-writes-client";r=0;t=${answer.headers.get('retry-after')}`,
      );
      expect(await answer.json()).toEqual({
        type: `${harness.issuer}/problems/too-many-requests`,
        title: 'Too Many Requests',
        status: 429,
        detail: 'Too many writes; try again later.',
      });
      expect((await call('GET', '/organizations', jwt)).status).toBe(200);
      expect(harness.limited.at(-1)).toBe('admin-writes-client');
      const other = await harness.build.machineJwt();
      expect((await call('POST', '/organizations', other, { name: 'Another caller' })).status).toBe(201);
      clock.now += 60_000;
      expect((await call('POST', '/organizations', jwt, { name: 'Again' })).status).toBe(201);
    },
  );

  it('are limited by user, with a number of their own, over all their access tokens', async () => {
    const { id } = await harness.build.user({ organizationId: (await harness.build.organization()).id });
    for (let n = 0; n < 5; n += 1)
      expect((await call('DELETE', nowhere, await harness.build.userJwt(id))).status).toBe(404);
    const answer = await call('DELETE', nowhere, await harness.build.userJwt(id));
    expect(answer.status).toBe(429);
    expect(answer.headers.get('ratelimit-policy')).toBe('"admin-writes-user";q=5;w=60');
    expect((await call('GET', '/me', await harness.build.userJwt(id))).status).toBe(200);
  });

  it('that are refused ask the database nothing', async () => {
    const jwt = await harness.build.machineJwt();
    for (let n = 0; n < 20; n += 1) await call('DELETE', nowhere, jwt);
    const statements: string[] = [];
    const count = ({ sql }: { sql: string }) => void statements.push(sql);
    harness.database.knex.on('query', count);
    for (let n = 0; n < 20; n += 1) expect((await call('DELETE', nowhere, jwt)).status).toBe(429);
    harness.database.knex.off('query', count);
    // The counters of all that came before are written some time in between.
    expect(statements.filter((sql) => !sql.includes('rate_limits'))).toEqual([]);
    expect(statements.length).toBeLessThanOrEqual(2);
  });

  it('are counted by all instances together', async () => {
    const jwt = await harness.build.machineJwt();
    const other = await harness.another();
    try {
      for (let n = 0; n < 19; n += 1) await call('DELETE', nowhere, jwt);
      await expect
        .poll(async () => (await call('DELETE', nowhere, jwt, undefined, other.url)).status, {
          interval: 400,
        })
        .toBe(429);
    } finally {
      await other.close();
    }
  });

  it('without a valid access token count for nobody', async () => {
    for (let n = 0; n < 30; n += 1) expect((await call('DELETE', nowhere, 'x')).status).toBe(401);
    expect(harness.limited.filter((name) => name === 'admin-writes-user')).toHaveLength(1);
  });
});
