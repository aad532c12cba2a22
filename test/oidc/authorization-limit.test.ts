import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { authorizationRequest, type Browser, createBrowser, signIn } from '../support/browser.ts';
import { createHarness, type Harness } from '../support/harness.ts';

const password = 'a good long password';
const clock = { now: 0 };
let harness: Harness;
beforeAll(async () => {
  const env = { TRUST_PROXY: 'true', RATE_LIMIT_OVERRIDES: 'authorizations=6/60' };
  harness = await createHarness({ env, now: () => clock.now });
});
afterAll(() => harness.close());
afterEach(() => {
  clock.now += 60_000;
});

const from = (address: string) => createBrowser(harness, { 'x-forwarded-for': address });
const rows = async () => Number((await harness.database.knex('oidc_artifacts').count())[0]?.count);

async function ask(browser: Browser, times: number, change: Record<string, string> = {}) {
  const statuses: number[] = [];
  for (let n = 0; n < times; n += 1)
    statuses.push((await browser.get(authorizationRequest(harness, change).url)).status);
  return statuses;
}

it('counts by address, and beyond the limit leaves no row and asks no query', async () => {
  expect(await ask(from('192.0.2.1'), 6)).toEqual(Array(6).fill(303));
  const before = await rows();
  const statements: string[] = [];
  const note = ({ sql }: { sql: string }) => void statements.push(sql);
  harness.database.knex.on('query', note);
  const refused = await from('192.0.2.1').get(authorizationRequest(harness).url, { accept: 'text/html' });
  harness.database.knex.off('query', note);
  expect(refused.status).toBe(429);
  expect(refused.headers.get('content-type')).toMatch(/^text\/html/);
  expect(refused.headers.get('ratelimit-policy')).toBe('"authorizations";q=6;w=60');
  expect(refused.headers.get('ratelimit')).toBe('"authorizations";r=0;t=60');
  expect(refused.headers.get('retry-after')).toBe('60');
  expect(refused.headers.get('location')).toBeNull();
  expect(refused.text).toContain('Try again in 1 minute.');
  // What is counted is written a second later, for all such requests together.
  expect(statements.filter((sql) => !sql.includes('INTO rate_limits'))).toEqual([]);
  expect(await rows()).toBe(before);
  expect(harness.limited.at(-1)).toBe('authorizations');
  expect(await ask(from('192.0.2.2'), 1)).toEqual([303]);
  clock.now += 60_000;
  expect(await ask(from('192.0.2.1'), 1)).toEqual([303]);
});

it('counts requests to sign out too: each leaves a row', async () => {
  const browser = from('192.0.2.30');
  const ask = async () => (await browser.get(`${harness.issuer}/oauth/logout?state=x`)).status;
  for (let n = 0; n < 6; n += 1) expect(await ask()).toBe(303);
  const before = await rows();
  expect(await ask()).toBe(429);
  expect(await rows()).toBe(before);
});

it('counts each way to ask: a bad request, an unknown client, HEAD; and answers who wants no HTML in JSON', async () => {
  const browser = from('192.0.2.10');
  const { url } = authorizationRequest(harness);
  const [target = ''] = url.split('?');
  const head = (headers = { 'x-forwarded-for': '192.0.2.10' }) =>
    fetch(url.replace(harness.issuer, harness.url), { method: 'HEAD', headers, redirect: 'manual' });
  const json = { accept: 'application/json' };
  expect((await head()).status).toBe(303);
  expect((await browser.get(target)).status).toBe(400);
  expect(await ask(browser, 4, { client_id: 'unknown' })).toEqual(Array(4).fill(400));
  for (const answer of [await browser.get(url, json), await browser.get(target, json)]) {
    expect([answer.status, answer.headers.get('cache-control')]).toEqual([429, 'no-store']);
    expect(JSON.parse(answer.text)).toEqual({
      error: 'too_many_requests',
      error_description: 'too many requests; try again later',
    });
  }
  expect((await head()).status).toBe(429);
});

it('keeps no known browser out, and counts it by its user', async () => {
  const user = await harness.build.user({ password });
  const browser = from('192.0.2.20');
  await signIn(harness, browser, { email: user.email, password });
  expect(await ask(from('192.0.2.20'), 6)).toEqual([303, 303, 303, 303, 303, 429]);
  expect(await ask(browser, 7, { prompt: 'none' })).toEqual([303, 303, 303, 303, 303, 303, 429]);
  // A cookie that was made up is none.
  const forged = createBrowser(harness, {
    'x-forwarded-for': '192.0.2.20',
    cookie: `pt_known_browser=${user.id}; pt_known_browser.sig=${'x'.repeat(27)}`,
  });
  expect(await ask(forged, 1)).toEqual([429]);
  const line = harness
    .logs()
    .split('\n')
    .findLast((text) => text.includes('"status":429'));
  expect(JSON.parse(line ?? '{}')).toMatchObject({ route: '/oauth/authorize' });
});
