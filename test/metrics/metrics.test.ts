import { randomUUID } from 'node:crypto';
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { basic, createHarness, exchange, type Harness, postForm, rawPost } from '../support/harness.ts';
import { countOf, readMetrics, samplesOf } from '../support/metrics.ts';

const metricsToken = 'a-metrics-token-that-nobody-else-knows';
let harness: Harness;
beforeAll(async () => {
  harness = await createHarness({ env: { METRICS_TOKEN: metricsToken } });
});
afterAll(() => harness.close());

const read = (url = harness.url) => readMetrics(url, metricsToken);

describe('GET /metrics with METRICS_TOKEN', () => {
  it.each([
    ['no header', '/metrics', {}],
    ['another token', '/metrics', { authorization: `Bearer ${metricsToken}x` }],
    ['the beginning of the token', '/metrics', { authorization: `Bearer ${metricsToken.slice(0, -1)}` }],
    ['another scheme', '/metrics', { authorization: `Basic ${metricsToken}` }],
    ['the token as a password', '/metrics', basic('metrics', metricsToken)],
    ['the bare token', '/metrics', { authorization: metricsToken }],
    ['more after the token', '/metrics', { authorization: `Bearer ${metricsToken} x` }],
    ['the token in the query', `/metrics?access_token=${metricsToken}&token=${metricsToken}`, {}],
    ['the token in another header', '/metrics', { 'x-metrics-token': metricsToken, cookie: metricsToken }],
  ])('refuses %s', async (_what, path, headers) => {
    const response = await fetch(harness.url + path, { headers: headers as Record<string, string> });
    expect(response.status).toBe(401);
    expect(response.headers.get('www-authenticate')).toBe(`Bearer realm="${harness.issuer}"`);
    expect(await response.text()).not.toMatch(/platform_tokens_|a-metrics-token/);
  });

  it('refuses an access token of ours, and of an administrator', async () => {
    for (const jwt of [await harness.build.machineJwt(), await harness.build.userJwt(randomUUID())]) {
      const response = await fetch(`${harness.url}/metrics`, { headers: { authorization: `Bearer ${jwt}` } });
      expect(response.status).toBe(401);
    }
  });

  it('refuses the header twice, also where one of them is right', async () => {
    const { port } = new URL(harness.url);
    for (const second of ['Bearer wrong', `Bearer ${metricsToken}`]) {
      const status = await new Promise((resolve, reject) => {
        const headers = ['Authorization', `Bearer ${metricsToken}`, 'Authorization', second];
        request({ port, host: '127.0.0.1', path: '/metrics', headers: ['Host', 'x', ...headers] })
          .on('response', (response) => resolve(response.resume().statusCode))
          .on('error', reject)
          .end();
      });
      expect(status).toBe(400);
    }
  });

  it('takes the token, its scheme in any case', async () => {
    for (const scheme of ['Bearer', 'bearer']) {
      const response = await fetch(`${harness.url}/metrics`, {
        headers: { authorization: `${scheme} ${metricsToken}` },
      });
      expect(response.status).toBe(200);
      expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
      expect(response.headers.get('cache-control')).toBe('no-store');
      expect(await response.text()).toMatch(/^# HELP [\s\S]+\n$/);
    }
  });

  it('takes GET alone', async () => {
    const { status, headers } = await rawPost(`${harness.url}/metrics`, '', {});
    expect([status, headers.allow]).toEqual([405, 'HEAD, GET']);
  });

  it('speaks OpenMetrics to who asks for it', async () => {
    const accept =
      'application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2';
    const headers = { accept, authorization: `Bearer ${metricsToken}` };
    const response = await fetch(`${harness.url}/metrics`, { headers });
    expect(response.headers.get('content-type')).toMatch(/^application\/openmetrics-text; version=1\.0\.0/);
    const text = await response.text();
    expect(text).toMatch(/\n# EOF\n$/);
    expect(text).toContain('# TYPE platform_tokens_exchanges counter\n');
    expect(text).toContain('platform_tokens_exchanges_total{outcome="granted",service=""} 0\n');
  });

  it('is not in the request log, unless it fails', async () => {
    await read();
    const lines = harness
      .logs()
      .split('\n')
      .filter((line) => line.includes('"route":"/metrics"'));
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) expect(JSON.parse(line).level).toBe(20);
  });
});

describe('without METRICS_TOKEN', () => {
  it('is open in development, under the path of the issuer', async () => {
    const open = await createHarness({ env: { ISSUER: 'http://issuer.test/eu' } });
    expect((await fetch(`${open.url}/metrics`)).status).toBe(200);
    const { origin } = new URL(open.url);
    expect((await fetch(`${origin}/metrics`)).status).toBe(404);
    await open.close();
  });

  it('is not there in production, for any method and with any credential', async () => {
    const env = { NODE_ENV: 'production', ISSUER: 'https://issuer.test' };
    const closed = await createHarness({ env });
    for (const authorization of ['', 'Bearer ', 'Bearer undefined', 'Bearer null']) {
      for (const method of ['GET', 'POST']) {
        const response = await fetch(`${closed.url}/metrics`, { method, headers: { authorization } });
        expect([response.status, response.headers.get('allow')]).toEqual([404, null]);
      }
    }
    await closed.close();
    const opened = await createHarness({ env: { ...env, METRICS_TOKEN: metricsToken } });
    expect((await fetch(`${opened.url}/metrics`)).status).toBe(401);
    expect((await read(opened.url)).size).toBeGreaterThan(0);
    await opened.close();
  });
});

describe('what is counted', () => {
  it('has every exchange by outcome and service', async () => {
    const { build, url } = harness;
    const { token, service } = await build.platformToken();
    const dead = await build.platformToken({ revokedAt: new Date() });
    const client = await build.client([], []);
    const before = await read();
    for (let i = 0; i < 7; i++) await exchange(url, token);
    await exchange(url, dead.token);
    await exchange(url, 'ptk_nonsense');
    await exchange(url, token, { scope: 'more' });
    await exchange(url, token, { audience: 'elsewhere' });
    await exchange(url, token, { actor_token: 'x' });
    await exchange(url, token, {}, basic(client.id, 'wrong'));
    await exchange(url, token, {}, { authorization: 'Bearer another' });
    const after = await read();
    const grown = (outcome: string, of: string) => {
      const name = `platform_tokens_exchanges_total{outcome="${outcome}",service="${of}"}`;
      return (after.get(name) ?? 0) - (before.get(name) ?? 0);
    };
    expect({
      granted: grown('granted', service.id),
      dead: grown('invalid_subject_token', dead.service.id),
      unknown: grown('invalid_subject_token', ''),
      scope: grown('invalid_scope', service.id),
      target: grown('invalid_target', service.id),
      request: grown('invalid_request', ''),
      client: grown('invalid_client', ''),
    }).toEqual({ granted: 7, dead: 1, unknown: 1, scope: 1, target: 1, request: 2, client: 1 });
    const counted = 'platform_tokens_exchange_duration_seconds_count';
    expect(countOf(after, counted) - countOf(before, counted)).toBe(7);
    const issued = 'platform_tokens_access_tokens_total{grant_type="token_exchange"}';
    expect(countOf(after, issued) - countOf(before, issued)).toBe(7);
  });

  it('has other access tokens by their grant type, and none for what was refused', async () => {
    const { id, secret } = await harness.build.client(['admin']);
    const form = { grant_type: 'client_credentials', scope: 'admin' };
    const name = 'platform_tokens_access_tokens_total{grant_type="client_credentials"}';
    const before = countOf(await read(), name);
    expect((await postForm(harness.url, form, basic(id, secret))).status).toBe(200);
    expect((await postForm(harness.url, form, basic(id, 'wrong'))).status).toBe(401);
    expect(countOf(await read(), name) - before).toBe(1);
  });

  it('has look-ups and the tokens that they were for', async () => {
    const { token } = await harness.build.platformToken();
    const [calls, keys] = [
      'platform_tokens_database_lookups_total',
      'platform_tokens_database_lookup_keys_total',
    ];
    const before = await read();
    await Promise.all(Array.from({ length: 20 }, () => exchange(harness.url, token)));
    const after = await read();
    expect(countOf(after, keys) - countOf(before, keys)).toBe(20);
    expect(countOf(after, calls) - countOf(before, calls)).toBeGreaterThan(0);
    expect(countOf(after, calls) - countOf(before, calls)).toBeLessThanOrEqual(20);
  });

  it('has status lists as they are built and served', async () => {
    await fetch(`${harness.url}/oauth/status-lists/0`);
    const metrics = await read();
    expect(countOf(metrics, 'platform_tokens_status_list_build_seconds_count')).toBeGreaterThan(0);
    expect(countOf(metrics, 'platform_tokens_status_list_bytes')).toBeGreaterThan(100);
    expect(countOf(metrics, 'platform_tokens_status_list_served_age_seconds')).toBeLessThan(60);
  });

  it('has nothing in flight but this very request when all is answered', async () => {
    await expect.poll(async () => countOf(await read(), 'platform_tokens_http_requests_in_flight')).toBe(1);
  });
});

describe('labels', () => {
  it('are few, whatever callers send', async () => {
    const flood = async (count: number) => {
      for (const path of Array.from({ length: count }, () => randomUUID())) {
        await fetch(`${harness.url}/${path}`, {
          headers: { 'user-agent': randomUUID(), 'x-request-id': path },
        });
        await fetch(`${harness.url}/admin/tokens/${path}?q=${path}`, { method: 'DELETE' });
        await fetch(`${harness.url}/dashboard/${path}`);
        await fetch(`${harness.url}/oauth/sign-in/${path}`);
        await fetch(`${harness.url}/oauth/status-lists/${path}`);
        await postForm(harness.url, { grant_type: path, scope: path, client_id: path });
        await exchange(harness.url, path, { audience: path });
      }
      for (const method of ['PROPFIND', 'PURGE', 'REPORT', 'M-SEARCH', 'LOCK', 'MKCOL']) {
        await fetch(`${harness.url}/oauth/token`, { method });
        await fetch(`${harness.url}/${randomUUID()}`, { method });
      }
    };
    await flood(1);
    const before = await read();
    await flood(100);
    const after = await read();
    const process = /^(nodejs|process)_/;
    expect([...after.keys()].filter((key) => !before.has(key) && !process.test(key))).toEqual([]);
    expect([...after.keys()].join('\n')).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}/);
    expect(
      [...after.keys()].filter((key) => /method="(?!GET|HEAD|POST|PUT|PATCH|DELETE|other)/.test(key)),
    ).toEqual([]);
  });

  it('have a hundred services of their own, and the others together', async () => {
    const one = await createHarness({ env: { METRICS_TOKEN: metricsToken } });
    const organization = await one.build.organization();
    const user = await one.build.user({ organizationId: organization.id });
    for (let i = 0; i < 120; i++) {
      const { token } = await one.build.platformToken({
        organizationId: organization.id,
        userId: user.id,
        service: await one.build.service(`service-${String(i).padStart(3, '0')}`),
      });
      expect((await exchange(one.url, token)).status).toBe(200);
    }
    const granted = samplesOf(await read(one.url), 'platform_tokens_exchanges_total').filter(([key]) =>
      key.includes('"granted"'),
    );
    expect(granted.length).toBeLessThanOrEqual(102);
    expect(granted.reduce((sum, [, value]) => sum + value, 0)).toBe(120);
    expect(granted.find(([key]) => key.includes('"_other"'))?.[1]).toBeGreaterThanOrEqual(20);
    await one.close();
  });
});

it('holds no secret, id or address after requests of all kinds', async () => {
  const { build, url, stores } = harness;
  const { token, id, organizationId, userId } = await build.platformToken();
  const { id: clientId, secret } = await build.client(['admin', 'introspect']);
  const { access_token: jwt } = (await (await exchange(url, token)).json()) as { access_token: string };
  await postForm(url, { grant_type: 'client_credentials', scope: 'admin' }, basic(clientId, secret));
  await postForm(url, { token: jwt }, basic(clientId, secret), '/oauth/introspect');
  await fetch(`${url}/admin/tokens/${id}`, {
    headers: { authorization: `Bearer ${await build.machineJwt()}`, 'x-forwarded-for': '203.0.113.77' },
  });
  await fetch(`${url}/${token}`);
  await fetch(`${url}/dashboard/${token}?x=${jwt}`);
  await postForm(url, { token }, {}, '/oauth/revoke');
  await stores.users.find(userId);
  const response = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${metricsToken}` } });
  const text = await response.text();
  expect(text).toContain('platform_tokens_exchanges_total');
  for (const hidden of [
    token,
    jwt,
    jwt.slice(-40),
    secret,
    clientId,
    id,
    organizationId,
    userId,
    metricsToken,
  ])
    expect(text).not.toContain(hidden);
  expect(text).not.toMatch(/ptk_|eyJ|\b\d+\.\d+\.\d+\.\d+\b|@/);
});
