import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { policy } from '../../config/policy.ts';
import { type Answer, authorizationRequest, createBrowser, openSignIn, signIn } from '../support/browser.ts';
import { createHarness, type Harness } from '../support/harness.ts';

const { points: perAccountAndAddress, window } = policy.limits['sign-in-account-address'];
const perAddress = policy.limits['sign-in-address'].points;
const perAccount = policy.limits['sign-in-account'].points;
const password = 'a good long password';
const clock = { now: 0 };
let harness: Harness;
beforeAll(async () => {
  harness = await createHarness({ env: { TRUST_PROXY: 'true' }, now: () => clock.now });
});
afterAll(async () => {
  const logs = harness.logs();
  await harness.close();
  expect(logs).not.toMatch(/"status":500|unexpected error/);
});
afterEach(async () => {
  vi.restoreAllMocks();
  await harness.database.knex('rate_limits').delete();
  clock.now += policy.signInRefusalMemoryMs;
});

const from = (address: string) => createBrowser(harness, { 'x-forwarded-for': address });

/** An attempt from an address, in a browser of its own unless one is given. */
async function attempt(
  email: string,
  typed: string,
  address: string,
  browser = from(address),
): Promise<Answer> {
  const { url } = await openSignIn(browser, authorizationRequest(harness));
  return browser.post(url, { email, password: typed });
}

async function fail(
  times: number,
  email: string | ((n: number) => string),
  address: string | ((n: number) => string),
) {
  const statuses: number[] = [];
  for (let n = 0; n < times; n += 1) {
    const place = typeof address === 'string' ? address : address(n);
    statuses.push((await attempt(typeof email === 'string' ? email : email(n), 'wrong', place)).status);
  }
  return statuses;
}

/** Sets a counter's points instead of failing fifty times. */
const wear = (key: RegExp, points: number) =>
  harness.database.knex('rate_limits').whereRaw('key ~ ?', [key.source]).update({ points });

describe('failed attempts', () => {
  it('are limited by account and address, and the page says when to try again', async () => {
    const { email } = await harness.build.user({ password });
    expect(await fail(perAccountAndAddress, email, '192.0.2.1')).toEqual(
      Array(perAccountAndAddress).fill(422),
    );
    const refused = await attempt(email, password, '192.0.2.1');
    expect(refused.status).toBe(429);
    const seconds = Number(refused.headers.get('retry-after'));
    expect(seconds).toBeGreaterThan(window - 60);
    expect(seconds).toBeLessThanOrEqual(window);
    expect(refused.headers.get('ratelimit-policy')).toBe(
      `"sign-in-account-address";q=${perAccountAndAddress};w=${window}`,
    );
    expect(refused.headers.get('ratelimit')).toBe(`"sign-in-account-address";r=0;t=${seconds}`);
    expect(harness.limited.at(-1)).toBe('sign-in-account-address');
    expect(refused.text).toContain('Try again in 15 minutes.');
    expect((await attempt(email, password, '192.0.2.2')).status).toBe(303);
  });

  it('that go on after a refusal cost no query, and are counted again soon', async () => {
    const { email } = await harness.build.user({ password });
    const browser = from('192.0.2.50');
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    await fail(perAccountAndAddress + 1, email, '192.0.2.50');
    const statements: string[] = [];
    const count = ({ sql }: { sql: string }) => void statements.push(sql);
    harness.database.knex.on('query', count);
    for (let n = 0; n < 10; n += 1) {
      const answer = await browser.post(url, { email: ` ${email.toUpperCase()}`, password });
      expect(answer.status).toBe(429);
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(window - 60);
    }
    harness.database.knex.off('query', count);
    expect(statements).toEqual([]);
    const other = await harness.build.user({ password });
    expect((await attempt(other.email, 'wrong', '192.0.2.50')).status).toBe(422);
    await harness.database.knex('rate_limits').delete();
    expect((await attempt(email, password, '192.0.2.50')).status).toBe(429);
    clock.now += policy.signInRefusalMemoryMs;
    expect((await attempt(email, password, '192.0.2.50')).status).toBe(303);
  });

  it('leave events: each that failed with its reason, and those that were refused counted', async () => {
    const { email, id } = await harness.build.user({ password });
    await fail(perAccountAndAddress + 3, email, '192.0.2.77');
    await harness.stores.countedEvents.close();
    const events = await harness.database
      .knex('audit_events')
      .where({ ip: '192.0.2.77' })
      .orderBy('at')
      .orderBy('id')
      .select('action', 'reason', 'count', 'target_id');
    // A refusal that comes from memory does not know whose e-mail it was.
    expect(events.slice(0, -2).every(({ target_id }) => target_id === id)).toBe(true);
    const refused = events
      .splice(-2)
      .map(({ action, reason, count, target_id }) => [action, reason, count, target_id]);
    expect(refused.sort()).toEqual([
      ['user.sign_in_refused', 'too many attempts', 1, id],
      ['user.sign_in_refused', 'too many attempts', 2, null],
    ]);
    expect(events.map(({ target_id, ...event }) => event)).toEqual([
      ...Array(perAccountAndAddress).fill({
        action: 'user.sign_in_failed',
        reason: 'wrong password',
        count: 1,
      }),
    ]);
  });

  it('are limited alike for an e-mail that nobody has', async () => {
    expect(await fail(perAccountAndAddress + 1, 'Nobody@example.com', '192.0.2.1')).toEqual([
      ...Array(perAccountAndAddress).fill(422),
      429,
    ]);
    expect((await attempt('nobody@EXAMPLE.com ', 'wrong', '192.0.2.1')).status).toBe(429);
  });

  it('at once count one by one', async () => {
    const { email } = await harness.build.user({ password });
    const answers = await Promise.all(Array.from({ length: 12 }, () => attempt(email, 'wrong', '192.0.2.1')));
    expect(answers.filter(({ status }) => status === 422)).toHaveLength(perAccountAndAddress);
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(12 - perAccountAndAddress);
  });

  it('are limited by address, over all accounts; an IPv6 network is one address', async () => {
    await fail(1, 'someone@example.com', '2001:db8:1:2::1');
    expect(await wear(/^sign-in-address:/, perAddress)).toBe(1);
    expect((await attempt('other@example.com', 'wrong', '2001:db8:1:2:ffff:1:2:3')).status).toBe(429);
    expect((await attempt('other@example.com', 'wrong', '2001:db8:1:3::1')).status).toBe(422);
  });

  it('are limited by account, over all addresses', async () => {
    const { email } = await harness.build.user({ password });
    await fail(1, email, '192.0.2.1');
    expect(await wear(/^sign-in-account:/, perAccount)).toBe(1);
    expect((await attempt(email, password, '192.0.2.2')).status).toBe(429);
  });

  it('of one address never use up the limit of an account', async () => {
    const { email } = await harness.build.user({ password });
    await fail(perAccountAndAddress + 10, email, '192.0.2.1');
    const { points } = await harness.database
      .knex('rate_limits')
      .whereLike('key', 'sign-in-account:%')
      .first('points');
    expect(points).toBe(perAccountAndAddress);
  });

  it('of strangers do not concern a browser that signed in before, which has a limit of its own', async () => {
    const user = await harness.build.user({ password });
    const browser = from('192.0.2.1');
    await signIn(harness, browser, { email: user.email, password });
    await fail(1, user.email, '192.0.2.1');
    await wear(/^sign-in-/, 1000);

    const openAgain = (own: typeof browser) =>
      openSignIn(own, authorizationRequest(harness, { prompt: 'login' }));
    const again = () => openAgain(browser);
    for (let n = 0; n < perAccountAndAddress; n += 1) {
      expect((await browser.post((await again()).url, { email: user.email, password: 'wrong' })).status).toBe(
        422,
      );
    }
    expect((await browser.post((await again()).url, { email: user.email, password })).status).toBe(429);
    await harness.database.knex('rate_limits').whereLike('key', 'sign-in-known-browser:%').delete();
    expect((await browser.post((await again()).url, { email: user.email, password })).status).toBe(303);

    const other = await harness.build.user({ password });
    expect((await browser.post((await again()).url, { email: other.email, password })).status).toBe(429);

    // Nor of another browser by which the same user has signed in.
    await harness.database.knex('rate_limits').delete();
    const second = from('192.0.2.3');
    await signIn(harness, second, { email: user.email, password });
    await wear(/^sign-in-/, 1000);
    for (let n = 0; n <= perAccountAndAddress; n += 1)
      await second.post((await openAgain(second)).url, { email: user.email, password: 'wrong' });
    expect((await second.post((await openAgain(second)).url, { email: user.email, password })).status).toBe(
      429,
    );
    expect((await browser.post((await again()).url, { email: user.email, password })).status).toBe(303);
  });

  it('are limited for all known browsers of a user together: whoever knew the password once may have many', async () => {
    const user = await harness.build.user({ password });
    const attemptByKnown = async (given: string) => {
      const browser = from('192.0.2.1');
      await signIn(harness, browser, { email: user.email, password });
      return async () => {
        const { url } = await openSignIn(browser, authorizationRequest(harness, { prompt: 'login' }));
        return (await browser.post(url, { email: user.email, password: given })).status;
      };
    };
    const one = await attemptByKnown('wrong');
    const another = await attemptByKnown(password);
    await harness.database.knex('rate_limits').delete();
    expect(await one()).toBe(422);
    expect(await wear(/^sign-in-account:/, perAccount)).toBe(1);
    expect(await another()).toBe(429);
  });

  it('are not forgiven by a cookie that was made up', async () => {
    const user = await harness.build.user({ password });
    await fail(1, user.email, '192.0.2.1');
    await wear(/^sign-in-account:/, perAccount);
    const browser = from('192.0.2.2');
    browser.jar.set('pt_known_browser|/', { value: `${user.id}.x`, path: '/' });
    browser.jar.set('pt_known_browser.sig|/', { value: 'x'.repeat(27), path: '/' });
    expect((await attempt(user.email, password, '192.0.2.2', browser)).status).toBe(429);
  });
});

it('a success takes back what was counted', async () => {
  const { email } = await harness.build.user({ password });
  for (let round = 0; round < 3; round += 1) {
    await fail(perAccountAndAddress - 1, email, '192.0.2.1');
    expect((await attempt(email, password, '192.0.2.1')).status).toBe(303);
  }
  const rows = await harness.database
    .knex('rate_limits')
    .whereLike('key', 'sign-in-%')
    .orderBy('key')
    .select('key', 'points');
  expect(rows.map(({ key, points }) => [key.split(':')[0], points])).toEqual([
    ['sign-in-account', 3 * (perAccountAndAddress - 1)],
    ['sign-in-address', 3 * (perAccountAndAddress - 1)],
  ]);
});

it('the counters name no e-mail and no user, and are swept when they end', async () => {
  const { email, id } = await harness.build.user({ password });
  await fail(1, email, '192.0.2.1');
  const text = JSON.stringify(await harness.database.knex('rate_limits').select());
  expect(text).not.toMatch(/@|user\d/);
  expect(text).not.toContain(id);
  expect(await harness.stores.rateLimits.deleteExpired(new Date())).toBe(0);
  const later = new Date(Date.now() + (window + 1) * 1000);
  expect(await harness.stores.rateLimits.deleteExpired(later)).toBe(3);
});

it('every instance counts for itself where the counters are out of reach', async () => {
  const { email } = await harness.build.user({ password });
  await harness.owner.knex.raw('ALTER TABLE rate_limits RENAME TO gone');
  try {
    expect(await fail(perAccountAndAddress + 1, email, '192.0.2.77')).toEqual([
      ...Array(perAccountAndAddress).fill(422),
      429,
    ]);
  } finally {
    await harness.owner.knex.raw('ALTER TABLE gone RENAME TO rate_limits');
  }
  expect(harness.logs()).toContain('rate limits are not shared');
});

it("goes by PostgreSQL's clock, however far this machine's is ahead", async () => {
  const { email } = await harness.build.user({ password });
  await fail(perAccountAndAddress, email, '192.0.2.78');
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * window * 1000 });
  try {
    const refused = await attempt(email, password, '192.0.2.78');
    expect(refused.status).toBe(429);
    const seconds = Number(refused.headers.get('retry-after'));
    expect(seconds).toBeGreaterThan(window - 60);
    expect(seconds).toBeLessThanOrEqual(window);
  } finally {
    vi.useRealTimers();
  }
});

it('the database out of reach is a page that says so', async () => {
  const browser = from('192.0.2.1');
  const { url } = await openSignIn(browser, authorizationRequest(harness));
  const down = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
  vi.spyOn(harness.stores.users, 'findCredentials').mockRejectedValue(down);
  const answer = await browser.post(url, { email: 'a@example.com', password });
  expect(answer.status).toBe(503);
  expect(answer.headers.get('retry-after')).toBe(String(policy.retryAfter));
  expect(answer.text).toContain('Not available right now');
});

it('RATE_LIMITS=off counts nothing', async () => {
  const unlimited = await createHarness({ env: { RATE_LIMITS: 'off' } });
  try {
    for (let n = 0; n <= perAccountAndAddress; n += 1) {
      const browser = createBrowser(unlimited);
      const { url } = await openSignIn(browser, authorizationRequest(unlimited));
      expect((await browser.post(url, { email: 'a@example.com', password })).status).toBe(422);
    }
    expect(await unlimited.database.knex('rate_limits').count()).toEqual([{ count: '0' }]);
  } finally {
    await unlimited.close();
  }
});
