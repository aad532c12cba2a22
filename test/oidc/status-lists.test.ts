import { getListFromStatusListJWT } from '@sd-jwt/jwt-status-list';
import { createRemoteJWKSet, decodeJwt, jwtVerify } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { statusListSize } from '../../server/domain/status-list.ts';
import { createHarness, exchange, type Harness } from '../support/harness.ts';

let harness: Harness;
let machine: string;
beforeAll(async () => {
  harness = await createHarness();
  machine = await harness.build.machineJwt();
});
afterAll(() => harness.close());

const fetchList = (list: number | string, url = harness.url, headers: Record<string, string> = {}) =>
  fetch(`${url}/oauth/status-lists/${list}`, { headers });

/** The claim of a JWT that the token is exchanged for. */
async function referenceOf(token: string): Promise<{ idx: number; uri: string }> {
  const { access_token: jwt } = (await (await exchange(harness.url, token)).json()) as {
    access_token: string;
  };
  return (decodeJwt(jwt) as { status: { status_list: { idx: number; uri: string } } }).status.status_list;
}

/** Read by a library that is not ours. */
async function statusOf(idx: number, url = harness.url): Promise<number> {
  const response = await fetchList(Math.floor(idx / statusListSize), url);
  expect(response.status).toBe(200);
  return getListFromStatusListJWT(await response.text()).getStatus(idx % statusListSize);
}

const change = (path: string, body: object) =>
  fetch(`${harness.url}/admin${path}`, {
    method: 'PATCH',
    headers: { authorization: `Bearer ${machine}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });

describe('GET /oauth/status-lists/{n}', () => {
  it('is a signed list of one bit a token, as the draft has it', async () => {
    const { token } = await harness.build.platformToken();
    const { idx, uri } = await referenceOf(token);
    expect(uri).toBe(`${harness.issuer}/oauth/status-lists/0`);
    const response = await fetchList(0);
    expect(response.headers.get('content-type')).toBe('application/statuslist+jwt');
    expect(response.headers.get('cache-control')).toBe('public, max-age=5');
    const keys = createRemoteJWKSet(new URL(`${harness.url}/oauth/jwks`));
    const { payload, protectedHeader } = await jwtVerify(await response.text(), keys, {
      typ: 'statuslist+jwt',
    });
    expect(protectedHeader).toMatchObject({ alg: 'ES256', typ: 'statuslist+jwt' });
    expect(payload).toMatchObject({ sub: uri, ttl: 60, status_list: { bits: 1, lst: expect.any(String) } });
    expect(Number(payload.exp) - Number(payload.iat)).toBe(3_600);
    expect(await statusOf(idx)).toBe(0);
  });

  it('has an entity tag that stands for what it says', async () => {
    await harness.build.platformToken();
    const first = await fetchList(0);
    const etag = String(first.headers.get('etag'));
    expect(
      (await fetchList(0, harness.url, { 'if-none-match': etag, 'cache-control': 'max-age=0' })).status,
    ).toBe(304);
  });

  it.each(['2', '999999999', '-1', '01', '1e1', 'x', '0x0', '9999999999999999999999'])(
    'has no list %s',
    async (list) => {
      const response = await fetchList(list);
      expect(response.status).toBe(404);
      expect(response.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    },
  );

  it('says that it keeps no former lists, where one is asked for (§8.4)', async () => {
    const response = await fetchList('0?time=1686925000');
    expect(response.status).toBe(501);
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(response.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect((await fetchList('0?other=1')).status).toBe(200);
  });

  it('has the list that the next token may be the first in, and no more, whoever asks for others meanwhile', async () => {
    const { id } = await harness.build.platformToken();
    expect((await fetchList(1)).status).toBe(200);
    expect((await fetchList(2)).status).toBe(404);
    await harness.database
      .knex('platform_tokens')
      .where({ id })
      .update({ status_index: statusListSize + 5 });
    const second = async () => {
      await fetchList(999_999_999);
      return (await fetchList(2)).status;
    };
    await expect.poll(second).toBe(200);
    await harness.database.knex('platform_tokens').where({ id }).delete();
  });

  it('asks the database once for any number of lists that are not there', async () => {
    let queries = 0;
    const count = ({ sql }: { sql: string }) => {
      if (sql.includes('AS invalid')) queries += 1;
    };
    harness.database.knex.on('query', count);
    try {
      // Downwards, so that none is beyond one that was missing before.
      for (let list = 5_000; list > 4_800; list -= 1) expect((await fetchList(list)).status).toBe(404);
    } finally {
      harness.database.knex.off('query', count);
    }
    expect(queries).toBeLessThan(5);
  });
});

describe('a bit', () => {
  // What is kept for five seconds on one instance: a fresh one has nothing to keep.
  const freshly = async (idx: number): Promise<number> => {
    const other = await harness.another();
    try {
      return await statusOf(idx, other.url);
    } finally {
      await other.close();
    }
  };

  it('is set by a revocation, for good', async () => {
    const { token, id } = await harness.build.platformToken();
    const { idx } = await referenceOf(token);
    expect(await freshly(idx)).toBe(0);
    await fetch(`${harness.url}/admin/tokens/${id}`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${machine}` },
    });
    expect(await freshly(idx)).toBe(1);
  });

  it.each(['users', 'organizations', 'services'] as const)(
    'is set by a deactivation in %s, and cleared by an activation',
    async (kind) => {
      const { token, userId, organizationId, service } = await harness.build.platformToken();
      const bystander = await harness.build.platformToken();
      const { idx } = await referenceOf(token);
      const { idx: other } = await referenceOf(bystander.token);
      const id = { users: userId, organizations: organizationId, services: service.id }[kind];
      expect((await change(`/${kind}/${id}`, { status: 'inactive' })).status).toBe(200);
      expect([await freshly(idx), await freshly(other)]).toEqual([1, 0]);
      await change(`/${kind}/${id}`, { status: 'active' });
      expect(await freshly(idx)).toBe(0);
    },
  );

  it('stays set where the user of a revoked token becomes active again', async () => {
    const { token, userId, id } = await harness.build.platformToken();
    const { idx } = await referenceOf(token);
    await harness.database
      .knex('platform_tokens')
      .where({ id })
      .update({ revoked_at: new Date(), revoked_by: 'x' });
    await change(`/users/${userId}`, { status: 'inactive' });
    await change(`/users/${userId}`, { status: 'active' });
    expect(await freshly(idx)).toBe(1);
  });

  it('arrives on an instance that has kept the list within its five seconds', async () => {
    const { token, id } = await harness.build.platformToken();
    const { idx } = await referenceOf(token);
    expect(await statusOf(idx)).toBe(0);
    const revokedAt = Date.now();
    await harness.database
      .knex('platform_tokens')
      .where({ id })
      .update({ revoked_at: new Date(), revoked_by: 'x' });
    await expect.poll(() => statusOf(idx), { interval: 200 }).toBe(1);
    expect(Date.now() - revokedAt).toBeLessThan(8_000);
  });
});

it('asks the database once a list and refresh, however many ask', async () => {
  await harness.build.platformToken();
  const other = await harness.another();
  try {
    const count = async () => {
      const { rows } = await harness.database.knex.raw(
        "SELECT coalesce(sum(idx_scan + seq_scan), 0)::int AS n FROM pg_stat_user_tables WHERE relname = 'services'",
      );
      return rows[0].n as number;
    };
    const before = await count();
    const answers = await Promise.all(Array.from({ length: 300 }, () => fetchList(0, other.url)));
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    const bodies = new Set(await Promise.all(answers.map((answer) => answer.text())));
    expect(bodies.size).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    expect((await count()) - before).toBeLessThan(10);
  } finally {
    await other.close();
  }
});
