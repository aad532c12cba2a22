import { readdir, stat } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadDashboard } from '../../server/http/dashboard.ts';
import { createHarness, type Harness } from '../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(() => harness.close());

const get = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
  fetch(harness.url + path, { headers, method, redirect: 'manual' });

/** Paths of the page's script and style sheet, as its <base> makes them absolute. */
async function assetsOf(url: string): Promise<string[]> {
  const page = await (await fetch(`${url}/dashboard`)).text();
  const base = new URL(/<base href="([^"]*)">/.exec(page)?.[1] ?? '', url);
  return [...page.matchAll(/(?:src|href)="(\.\/assets\/[^"]+)"/g)].map(
    ([, path]) => new URL(String(path), base).href,
  );
}

/** Past fetch, which would tidy the path and decode the body. */
function raw(path: string, headers: Record<string, string> = {}) {
  const { port } = new URL(harness.url);
  return new Promise<{ status: number; headers: Record<string, unknown>; bytes: number }>(
    (resolve, reject) => {
      request({ port, path, headers, host: '127.0.0.1' }, (response) => {
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
        });
        response.on('end', () =>
          resolve({ status: Number(response.statusCode), headers: response.headers, bytes }),
        );
      })
        .on('error', reject)
        .end();
    },
  );
}

it('leads from the root to the dashboard', async () => {
  for (const path of ['/', '/dashboard/']) {
    const response = await get(path);
    expect(response.status).toBe(302);
    expect(response.headers.get('location')).toBe('/dashboard');
  }
});

it.each([
  '/dashboard',
  '/dashboard/callback?code=x',
  '/dashboard/settings/profile/access-tokens',
  '/dashboard/a/b',
])('answers %s with the page, under a policy without unsafe-inline', async (path) => {
  const response = await get(path);
  expect(response.status).toBe(200);
  const nonce = /nonce="([\w-]{22})"/.exec(await response.text())?.[1];
  expect(Object.fromEntries(response.headers)).toMatchObject({
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'no-store',
    'referrer-policy': 'no-referrer',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'x-content-type-options': 'nosniff',
    'content-security-policy': [
      "default-src 'none'",
      "script-src 'self'",
      `style-src 'self' 'nonce-${nonce}'`,
      "img-src 'self'",
      "connect-src 'self'",
      "form-action 'none'",
      "base-uri 'self'",
      "frame-ancestors 'none'",
    ].join('; '),
  });
});

it('gives every answer another nonce', async () => {
  const policies = await Promise.all(
    Array.from({ length: 20 }, async () => (await get('/dashboard')).headers.get('content-security-policy')),
  );
  expect(new Set(policies).size).toBe(20);
});

it('lets browsers keep what is named by its content, and nothing else for good', async () => {
  const assets = await assetsOf(harness.url);
  expect(assets.map((url) => url.split('.').at(-1)).sort()).toEqual(['css', 'js']);
  for (const url of assets) {
    const response = await fetch(url);
    expect(response.status).toBe(200);
    expect(response.headers.get('cache-control')).toBe('public, max-age=31536000, immutable');
    expect(response.headers.get('vary')).toBe('Accept-Encoding');
    const again = await raw(new URL(url).pathname, { 'if-none-match': String(response.headers.get('etag')) });
    expect(again).toMatchObject({ status: 304, bytes: 0 });
  }
  expect((await get('/dashboard/icon.svg')).headers.get('cache-control')).toBe('public, max-age=3600');
});

it('sends files in the coding that the client takes', async () => {
  const [script] = (await assetsOf(harness.url)).filter((url) => url.endsWith('.js'));
  const path = new URL(String(script)).pathname;
  const sizes: Record<string, number> = {};
  for (const [accept, coding] of [
    ['br, gzip', 'br'],
    ['gzip', 'gzip'],
    ['', undefined],
    ['br;q=0, gzip;q=0', undefined],
  ] as const) {
    const response = await raw(path, { 'accept-encoding': accept });
    expect(response.status).toBe(200);
    expect(response.headers['content-encoding']).toBe(coding);
    sizes[accept] = response.bytes;
  }
  expect(sizes['br, gzip']).toBeLessThan(Number(sizes.gzip));
  expect(sizes.gzip).toBeLessThan(Number(sizes['']));
});

it('loads less than 200 KB of compressed JavaScript in all', async () => {
  const directory = 'dashboard/dist/assets';
  const files = await readdir(directory);
  for (const coding of ['br', 'gz']) {
    const scripts = files.filter((file) => file.endsWith(`.js.${coding}`));
    expect(scripts.length).toBeGreaterThan(0);
    const sizes = await Promise.all(scripts.map(async (file) => (await stat(join(directory, file))).size));
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(200_000);
  }
});

it.each([
  '/dashboard/assets/nothing.js',
  '/dashboard/assets/..%2Findex.html',
  '/dashboard/assets/%2e%2e%2fsources.sha256',
  '/dashboard/sources.sha256/',
  '/Dashboard',
  '/dashboards',
])('serves no file at %s', async (path) => {
  const { status, headers } = await raw(path);
  // Below /dashboard all else is a view, which says itself that it is not there.
  const isView = path.startsWith('/dashboard/sources');
  expect([status, headers['content-type']]).toEqual(
    isView ? [200, 'text/html; charset=utf-8'] : [404, 'application/problem+json'],
  );
});

it('takes a path with dots for a view', async () => {
  const { status, headers } = await raw('/dashboard/assets/../../package.json');
  expect([status, headers['content-type']]).toEqual([200, 'text/html; charset=utf-8']);
});

it.each(['POST', 'PUT', 'PATCH', 'DELETE'])('answers %s with 405', async (method) => {
  for (const path of ['/', '/dashboard', '/dashboard/icon.svg']) {
    const response = await get(path, {}, method);
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe('HEAD, GET');
  }
});

it('answers HEAD without a body', async () => {
  const response = await get('/dashboard', {}, 'HEAD');
  expect(response.status).toBe(200);
  expect(await response.text()).toBe('');
});

describe('an issuer with a path', () => {
  it('has its dashboard, files and root below it', async () => {
    const below = await createHarness({ env: { ISSUER: 'https://id.example.com/idm' } });
    try {
      const root = await fetch(`${below.url}/`, { redirect: 'manual' });
      expect(root.headers.get('location')).toBe(`${new URL(below.issuer).pathname}/dashboard`);
      const page = await fetch(`${below.url}/dashboard`);
      expect(page.headers.get('strict-transport-security')).toBe('max-age=63072000; includeSubDomains');
      expect(await page.text()).toContain(`<meta name="issuer" content="${below.issuer}">`);
      for (const url of await assetsOf(below.url)) expect((await fetch(url)).status).toBe(200);
    } finally {
      await below.close();
    }
  });
});

it('says where the dashboard is missing', async () => {
  await expect(loadDashboard('/nowhere')).rejects.toThrow('ENOENT');
});
