import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { policy } from '../../config/policy.ts';
import { createPlatformToken } from '../../server/domain/platform-token.ts';
import { basic, createHarness, exchange, exchangeGrant, type Harness, postForm } from '../support/harness.ts';

const { points, window } = policy.limits['exchange-failures'];
const perAddress = policy.limits['exchange-failures-address'].points;
const clock = { now: 0 };
let harness: Harness;
let client: { id: string; secret: string };
let queries = 0;
beforeAll(async () => {
  harness = await createHarness({ env: { TRUST_PROXY: 'true' }, now: () => clock.now });
  client = await harness.build.client(
    ['introspect', 'admin'],
    ['client_credentials', 'authorization_code', 'refresh_token', exchangeGrant],
    ['https://app.example/callback'],
  );
  countQueries(harness);
});
afterAll(async () => {
  const logs = harness.logs();
  await harness.close();
  expect(logs).not.toMatch(/"status":500|unexpected error|eyJ|ptk_/);
});
beforeEach(() => {
  // Windows of what went before are over.
  clock.now += 3_600_000;
});

/** All but those of the counters and of events, which come once a second, whatever is asked. */
function countQueries({ database }: Harness): void {
  const { lookups } = database;
  const query = lookups.query.bind(lookups) as (...parameters: unknown[]) => unknown;
  lookups.query = ((...parameters: unknown[]) => {
    queries += 1;
    return query(...parameters);
  }) as never;
  database.knex.on('query', ({ sql }: { sql: string }) => {
    if (!/rate_limits|(audit|exchange)_events/.test(sql)) queries += 1;
  });
}

let serial = 0;
/** An address of the documentation's network, never the same. */
const newAddress = () => {
  serial += 1;
  return `198.51.${serial >> 8}.${serial & 255}`;
};
const from = (address: string) => ({ 'x-forwarded-for': address });
const unknownToken = () => createPlatformToken('ptk').token;
const wrongSecret = () => randomBytes(32).toString('base64url');
const post = (
  path: string,
  form: Record<string, string>,
  headers: Record<string, string>,
  url = harness.url,
) => postForm(url, form, headers, path);

/** Every way in which something bad can be presented: the same value each time that it is called. */
const ways: [
  name: string,
  make: () => (address: string) => Promise<Response>,
  plain: [status: number, error: string | undefined],
][] = [
  ...exchangeWays(),
  ...(
    [
      ['alone', () => [{}, {}]],
      ['as a bearer credential too', (token: string) => [{}, { authorization: `Bearer ${token}` }]],
      ['beside client_secret_basic', () => [{}, basic(client.id, client.secret)]],
      ['beside client_secret_post', () => [{ client_id: client.id, client_secret: client.secret }, {}]],
    ] as [string, (token: string) => [Record<string, string>, Record<string, string>]][]
  ).flatMap(
    ([how, more]) =>
      [
        [`an unknown platform token to revoke, ${how}`, revokes(unknownToken, more), [200, undefined]],
        [`an unknown refresh token to revoke, ${how}`, revokes(wrongSecret, more), [200, undefined]],
      ] as (typeof ways)[number][],
  ),
  ...grantWays(),
  ...clientWays(),
];

function grantWays(): typeof ways {
  const redeem = (grant: string, name: string, headers: () => Record<string, string>) => () => {
    const presented = wrongSecret();
    const form = { grant_type: grant, [name]: presented, redirect_uri: 'https://app.example/callback' };
    return (address: string) =>
      post(
        '/oauth/token',
        { ...form, code_verifier: 'v'.repeat(43), ...(name === 'code' ? { client_id: 'dashboard' } : {}) },
        { ...from(address), ...headers() },
      );
  };
  return [
    ['an unknown code', redeem('authorization_code', 'code', () => ({})), [400, 'invalid_grant']],
    [
      'an unknown refresh token',
      redeem('refresh_token', 'refresh_token', () => basic(client.id, client.secret)),
      [400, 'invalid_grant'],
    ],
  ];
}

function exchangeWays(): typeof ways {
  const present = (more: (token: string) => [Record<string, string>, Record<string, string>]) => () => {
    const token = unknownToken();
    return (address: string) => {
      const [form, headers] = more(token);
      return exchange(harness.url, token, form, { ...from(address), ...headers });
    };
  };
  const plain: [number, string] = [400, 'invalid_request'];
  return [
    ['an unknown subject token', present(() => [{}, {}]), plain],
    [
      'an unknown subject token, as a bearer credential too',
      present((token) => [{}, { authorization: `bearer  ${token}` }]),
      plain,
    ],
    [
      'an unknown subject token of the anonymous client by name',
      present(() => [{ client_id: 'platform-tokens' }, {}]),
      plain,
    ],
    [
      'an unknown subject token beside client_secret_basic',
      present(() => [{}, basic(client.id, client.secret)]),
      plain,
    ],
    [
      'an unknown subject token beside client_secret_post',
      present(() => [{ client_id: client.id, client_secret: client.secret }, {}]),
      plain,
    ],
  ];
}

function revokes(
  make: () => string,
  more: (token: string) => [Record<string, string>, Record<string, string>],
) {
  return () => {
    const token = make();
    return (address: string) => {
      const [form, headers] = more(token);
      return post('/oauth/revoke', { token, ...form }, { ...from(address), ...headers });
    };
  };
}

function clientWays(): typeof ways {
  const targets: [string, string, () => Record<string, string>][] = [
    ['client_credentials', '/oauth/token', () => ({ grant_type: 'client_credentials', scope: 'admin' })],
    ['an exchange', '/oauth/token', () => ({ grant_type: exchangeGrant, subject_token: unknownToken() })],
    ['introspection', '/oauth/introspect', () => ({ token: 'x' })],
    ['revocation', '/oauth/revoke', () => ({ token: unknownToken() })],
  ];
  return targets.flatMap(([what, path, form]): typeof ways => [
    [
      `a wrong secret by client_secret_basic for ${what}`,
      () => {
        const secret = wrongSecret();
        return (address) => post(path, form(), { ...from(address), ...basic(client.id, secret) });
      },
      [401, 'invalid_client'],
    ],
    [
      `a wrong secret by client_secret_post for ${what}`,
      () => {
        const secret = wrongSecret();
        return (address) =>
          post(path, { ...form(), client_id: client.id, client_secret: secret }, from(address));
      },
      [401, 'invalid_client'],
    ],
  ]);
}

async function summary(answer: Response): Promise<[number, string | undefined]> {
  const text = await answer.text();
  return [answer.status, text ? (JSON.parse(text) as { error: string }).error : undefined];
}

/** All that a caller sees of an answer, but for its id and its moment. */
async function everything(answer: Response) {
  const headers = Object.fromEntries(answer.headers);
  for (const name of ['x-request-id', 'date', 'retry-after', 'ratelimit']) delete headers[name];
  return { status: answer.status, headers, body: await answer.text() };
}

async function expectRefused(answer: Response, limit: string, wait: (seconds: number) => boolean) {
  expect(answer.status).toBe(429);
  expect(answer.headers.get('content-type')).toBe('application/json; charset=utf-8');
  expect(answer.headers.get('cache-control')).toBe('no-store');
  const seconds = Number(answer.headers.get('retry-after'));
  expect(seconds).toSatisfy(wait);
  const { points: q, window: w } = policy.limits[limit as 'exchanges'];
  expect(answer.headers.get('ratelimit-policy')).toBe(`"${limit}";q=${q};w=${w}`);
  expect(answer.headers.get('ratelimit')).toBe(`"${limit}";r=0;t=${seconds}`);
  expect(await answer.json()).toEqual({
    error: 'too_many_requests',
    error_description: 'too many requests; try again later',
  });
}

const inWindow = (seconds: number) => seconds > window - 10 && seconds <= window;
const soon = (seconds: number) => seconds >= 1 && seconds <= policy.addressRetryAfter;

describe('one and the same value', () => {
  it.each(ways)('is refused without a query once it has failed too often: %s', async (_name, make, plain) => {
    const present = make();
    for (let n = 0; n < points; n += 1) expect(await summary(await present(newAddress()))).toEqual(plain);
    const before = queries;
    await expectRefused(await present(newAddress()), 'exchange-failures', inWindow);
    expect(queries).toBe(before);
    expect(await summary(await make()(newAddress()))).toEqual(plain);

    clock.now += window * 1_000;
    expect(await summary(await present(newAddress()))).toEqual(plain);
    expect(queries).toBeGreaterThan(before);
  });

  it('is the same at each endpoint', async () => {
    const token = unknownToken();
    for (let n = 0; n < points / 2; n += 1) {
      await exchange(harness.url, token, {}, from(newAddress()));
      await post('/oauth/revoke', { token }, from(newAddress()));
    }
    await expectRefused(await exchange(harness.url, token), 'exchange-failures', inWindow);
    await expectRefused(await post('/oauth/revoke', { token }, {}), 'exchange-failures', inWindow);
  });

  it('is refused alike whatever is wrong with it', async () => {
    const { build, database } = harness;
    const inactive = await build.platformToken();
    await database.knex('users').where({ id: inactive.userId }).update({ status: 'inactive' });
    const longAgo = new Date(Date.now() - 800 * 86_400_000);
    const dead = {
      unknown: unknownToken(),
      expired: (await build.platformToken({ createdAt: longAgo, expiresAt: new Date(Date.now() - 1_000) }))
        .token,
      revoked: (await build.platformToken({ revokedAt: new Date() })).token,
      inactive: inactive.token,
    };
    const answers = [];
    for (const token of Object.values(dead)) {
      for (let n = 0; n < points; n += 1) await exchange(harness.url, token, {}, from(newAddress()));
      answers.push(await everything(await exchange(harness.url, token, {}, from(newAddress()))));
    }
    expect(answers[0]?.status).toBe(429);
    expect(answers.slice(1)).toEqual(Array(3).fill(answers[0]));
  });

  it('is looked up again within a minute: a user who is active again has their token back', async () => {
    const { token, userId } = await harness.build.platformToken();
    const users = () => harness.database.knex('users').where({ id: userId });
    await users().update({ status: 'inactive' });
    for (let n = 0; n < points; n += 1) await exchange(harness.url, token, {}, from(newAddress()));
    await users().update({ status: 'active' });
    expect((await exchange(harness.url, token)).status).toBe(429);
    clock.now += window * 1_000;
    expect((await exchange(harness.url, token)).status).toBe(200);
  });

  it('counts only where it is itself to blame', async () => {
    const { token } = await harness.build.platformToken();
    for (let n = 0; n <= points; n += 1) {
      for (const wish of [
        { scope: 'nothing' },
        { resource: 'https://other.example' },
        { audience: 'other' },
        { actor_token: 'x' },
        { requested_token_type: 'x' },
      ]) {
        expect((await exchange(harness.url, token, wish as never)).status).toBe(400);
      }
    }
    expect((await exchange(harness.url, token)).status).toBe(200);
    expect((await exchange(harness.url, token, {}, basic(client.id, wrongSecret()))).status).toBe(401);
    expect((await exchange(harness.url, token)).status).toBe(200);
  });

  it('does not count a revocation that did something', async () => {
    for (let n = 0; n < points * 2; n += 1) {
      const { token } = await harness.build.platformToken();
      expect((await post('/oauth/revoke', { token }, {})).status).toBe(200);
    }
  });
});

it('what cannot be a platform token costs no query, and counts for its address', async () => {
  const address = newAddress();
  const good = unknownToken();
  const flip = good.endsWith('0') ? '1' : '0';
  const noise = [good.slice(0, -1) + flip, 'ptk_x', 'x', 'eyJhbGciOiJub25lIn0.e30.', `${good}0`];
  const before = queries;
  for (let n = 0; n < perAddress; n += 1) {
    const answer = await exchange(harness.url, noise[n % noise.length] as string, {}, from(address));
    expect(await summary(answer)).toEqual([400, 'invalid_request']);
  }
  for (const token of noise)
    await expectRefused(
      await exchange(harness.url, token, {}, from(address)),
      'exchange-failures-address',
      soon,
    );
  expect(queries).toBe(before);
});

describe('an address over its limit', () => {
  /** As many failures as it may have, each of another token. */
  async function exhaust(address: string, url = harness.url): Promise<void> {
    for (let n = 0; n < perAddress; n += 20) {
      const failing = Array.from({ length: 20 }, () => exchange(url, unknownToken(), {}, from(address)));
      for (const answer of await Promise.all(failing)) {
        // Another instance may have heard of the address before it has counted so many itself.
        expect(url === harness.url ? [400] : [400, 429]).toContain(answer.status);
      }
    }
  }
  const refused = (answer: Response) => expectRefused(answer, 'exchange-failures-address', soon);

  it('is answered alike for all that is bad, at every endpoint and in every form', async () => {
    const address = newAddress();
    const known = await harness.build.platformToken();
    expect((await exchange(harness.url, known.token, {}, from(address))).status).toBe(200);
    await harness.database
      .knex('platform_tokens')
      .where({ id: known.id })
      .update({ revoked_at: new Date(), revoked_by: 'test' });
    await exhaust(address);
    for (const token of [known.token, unknownToken(), 'noise', known.token])
      await refused(await exchange(harness.url, token, {}, from(address)));
    for (const [, make] of ways) await refused(await make()(address));
  });

  it('keeps out no good token, secret or revocation, whether they were seen here or not', async () => {
    const address = newAddress();
    const good = await harness.build.platformToken();
    /** As clients do: what is new behind a flooding address may be told to come back, once. */
    const patiently = async (send: () => Promise<Response>) => {
      const answer = await send();
      if (answer.status !== 429) return answer.status;
      clock.now += Number(answer.headers.get('retry-after')) * 1_000;
      return (await send()).status;
    };
    const credentials = { grant_type: 'client_credentials', scope: 'admin' };
    const expectGood = async (url: string, headers: Record<string, string>) => {
      const authorized = { ...headers, ...basic(client.id, client.secret) };
      const sends = [
        () => exchange(url, good.token, {}, headers),
        () => post('/oauth/token', credentials, authorized, url),
        () => post('/oauth/introspect', { token: 'x' }, authorized, url),
      ];
      for (const send of sends) expect(await patiently(send)).toBe(200);
      // Known now, they are never asked to wait.
      for (const send of sends) expect((await send()).status).toBe(200);
    };
    await expectGood(harness.url, from(address));
    await exhaust(address);
    for (let n = 0; n < 200; n += 1)
      expect((await exchange(harness.url, good.token, {}, from(address))).status).toBe(200);
    await expectGood(harness.url, from(address));
    const { token } = await harness.build.platformToken();
    expect(await patiently(() => exchange(harness.url, token, {}, from(address)))).toBe(200);
    expect(await patiently(() => post('/oauth/revoke', { token }, from(address)))).toBe(200);
    await expectGood(harness.url, from(newAddress()));

    // As after a restart: nothing is known there, and the address floods.
    const other = await harness.another();
    try {
      await exhaust(address, other.url);
      await expectGood(other.url, from(address));
    } finally {
      await other.close();
    }
  });

  it('is a whole IPv6 network, and no other', async () => {
    await exhaust('2001:db8:1:2::1');
    await refused(await exchange(harness.url, unknownToken(), {}, from('2001:db8:1:2:ffff::9')));
    const neighbour = await exchange(harness.url, unknownToken(), {}, from('2001:db8:1:3::1'));
    expect(neighbour.status).toBe(400);
  });

  it('costs no query for what has failed already', async () => {
    const address = newAddress();
    const dead = Array.from({ length: 20 }, unknownToken);
    await exhaust(address);
    for (const token of dead) await exchange(harness.url, token, {}, from(address));
    const before = queries;
    for (let n = 0; n < 20; n += 1)
      for (const token of dead)
        expect((await exchange(harness.url, token, {}, from(address))).status).toBe(429);
    expect(queries).toBe(before);
  });

  it('is over it on every instance', async () => {
    const address = newAddress();
    const other = await harness.another();
    try {
      await exhaust(address);
      const statusThere = async () => {
        // What has failed there a few times makes it read what others have counted.
        const [answer] = await Promise.all(
          Array.from({ length: 20 }, () => exchange(other.url, unknownToken(), {}, from(address))),
        );
        return answer?.status;
      };
      await expect.poll(statusThere, { interval: 500 }).toBe(429);
      const { points: shared } = await harness.database
        .knex('rate_limits')
        .where({ key: `exchange-failures-address:${address}` })
        .first('points');
      expect(shared).toBeLessThanOrEqual(perAddress * 1.5);
      expect((await exchange(other.url, unknownToken(), {}, from(newAddress()))).status).toBe(400);
    } finally {
      await other.close();
    }
  });

  it('is over it where the counters cannot be shared, and all that is good goes on', async () => {
    const address = newAddress();
    const { token } = await harness.build.platformToken();
    await harness.owner.knex.raw('ALTER TABLE rate_limits RENAME TO gone');
    try {
      await exhaust(address);
      await expect.poll(() => harness.logs()).toContain('rate limits are not shared');
      await refused(await exchange(harness.url, unknownToken(), {}, from(address)));
      expect((await exchange(harness.url, token, {}, from(address))).status).toBe(200);
      expect((await exchange(harness.url, token)).status).toBe(200);
    } finally {
      await harness.owner.knex.raw('ALTER TABLE gone RENAME TO rate_limits');
    }
  });
});

describe('a refusal', () => {
  const lines = (address: string) =>
    harness
      .logs()
      .split('\n')
      .filter((line) => line.includes('rate limit reached') && line.includes(`"${address}"`));

  it('is counted each time, and logged once for each address and window, without what was presented', async () => {
    const address = newAddress();
    const token = unknownToken();
    const before = harness.limited.length;
    for (let n = 0; n < points + 5; n += 1) await exchange(harness.url, token, {}, from(address));
    expect(harness.limited.slice(before)).toEqual(Array(5).fill('exchange-failures'));
    expect(lines(address)).toHaveLength(1);
    expect(JSON.parse(lines(address)[0] as string)).toMatchObject({
      limit: 'exchange-failures',
      key: address,
    });
    clock.now += window * 1_000;
    for (let n = 0; n < points + 5; n += 1) await exchange(harness.url, token, {}, from(address));
    expect(lines(address)).toHaveLength(2);
  });

  it('is logged no more than so often, and the rest by its number', async () => {
    const token = unknownToken();
    for (let n = 0; n < points; n += 1) await exchange(harness.url, token, {}, from(newAddress()));
    const before = harness.logs().split('rate limit reached').length;
    for (let n = 0; n < 150; n += 1) await exchange(harness.url, token, {}, from(newAddress()));
    expect(harness.logs().split('rate limit reached').length - before).toBe(100);
    clock.now += window * 1_000;
    for (let n = 0; n <= points; n += 1) await exchange(harness.url, token, {}, from(newAddress()));
    expect(harness.logs()).toContain('"refusals":50,"msg":"rate limit: more than were logged"');
  });
});

describe('with RATE_LIMITS=off', () => {
  let unlimited: Harness;
  beforeAll(async () => {
    unlimited = await createHarness({ env: { RATE_LIMITS: 'off', RATE_LIMIT_OVERRIDES: 'exchanges=1/60' } });
  });
  afterAll(() => unlimited.close());

  it('nothing is', async () => {
    const dead = unknownToken();
    const { token } = await unlimited.build.platformToken();
    for (let n = 0; n < points * 2; n += 1) {
      expect((await exchange(unlimited.url, dead)).status).toBe(400);
      expect((await exchange(unlimited.url, token)).status).toBe(200);
    }
  });
});

describe('exchanges of one token', () => {
  let strict: Harness;
  beforeAll(async () => {
    strict = await createHarness({ env: { RATE_LIMIT_OVERRIDES: 'exchanges=20/60' }, now: () => clock.now });
  });
  afterEach(() => {
    clock.now += 60_000;
  });
  afterAll(() => strict.close());

  it.each([{ scope: 'nothing' }, { audience: 'elsewhere' }])(
    'are limited with those that ask for what the token lacks: %j',
    async (more) => {
      const { token } = await strict.build.platformToken();
      const statuses: number[] = [];
      for (let n = 0; n < 30; n += 1) statuses.push((await exchange(strict.url, token, more)).status);
      expect(statuses).toEqual([...Array(25).fill(400), ...Array(5).fill(429)]);
      expect((await exchange(strict.url, token)).status).toBe(429);
    },
  );

  it.each([
    ['alone', () => ({})],
    ['as a bearer credential too', (token: string) => ({ authorization: `Bearer ${token}` })],
  ])(
    'are limited, before anything is signed or recorded, and those of others are not: %s',
    async (_, headers) => {
      const [busy, quiet] = [await strict.build.platformToken(), await strict.build.platformToken()];
      const statuses: number[] = [];
      for (let n = 0; n < 30; n += 1)
        statuses.push((await exchange(strict.url, busy.token, {}, headers(busy.token))).status);
      expect(statuses).toEqual([...Array(25).fill(200), ...Array(5).fill(429)]);
      const answer = await exchange(strict.url, busy.token);
      expect(answer.headers.get('ratelimit-policy')).toBe('"exchanges";q=20;w=60');
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
      expect(await answer.json()).toMatchObject({ error: 'too_many_requests' });
      expect(strict.limited.at(-1)).toBe('exchanges');
      expect((await exchange(strict.url, quiet.token)).status).toBe(200);
      clock.now += 60_000;
      expect((await exchange(strict.url, busy.token)).status).toBe(200);
    },
  );
});
