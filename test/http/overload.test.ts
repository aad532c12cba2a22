import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { createShedding, createTurnstile, type Overload, watchOverload } from '../../server/http/overload.ts';
import { securityFields } from '../../server/http/security-headers.ts';

const bounds = { begin: 100, end: 50, full: 250, maximumShare: 0.95 };
const observe = (shedding: ReturnType<typeof createShedding>, turn: number, times: number) => {
  for (let count = 0; count < times; count += 1) shedding.observe(turn);
};
function refusedOf({ share }: ReturnType<typeof createShedding>, requests: number): number {
  const refuses = createTurnstile();
  return Array.from({ length: requests }, () => refuses(share)).filter(Boolean).length;
}

it('refuses nothing for one long turn, however long', () => {
  const shedding = createShedding(bounds);
  observe(shedding, 20, 10);
  observe(shedding, 5_000, 1);
  observe(shedding, 20, 10);
  expect([shedding.share, refusedOf(shedding, 100)]).toEqual([0, 0]);
});

it('refuses nothing below the bound', () => {
  const shedding = createShedding(bounds);
  observe(shedding, 99, 100);
  expect(refusedOf(shedding, 100)).toBe(0);
});

it('refuses a share that grows with the delay, evenly, and never all', () => {
  const shares = [120, 150, 200, 10_000].map((delay) => {
    const shedding = createShedding(bounds);
    observe(shedding, delay, 50);
    return refusedOf(shedding, 1_000) / 1_000;
  });
  expect(shares.map((share) => Math.round(share * 100))).toEqual([35, 50, 75, 95]);
});

it('goes on below the bound at which it began, until it is below the other', () => {
  const shedding = createShedding(bounds);
  observe(shedding, 200, 50);
  observe(shedding, 60, 100);
  expect(shedding.share).toBeGreaterThan(0);
  observe(shedding, 40, 100);
  expect(shedding.share).toBe(0);
  observe(shedding, 60, 100);
  expect(shedding.share).toBe(0);
});

let server: Server | undefined;
let overload: Overload | undefined;
afterEach(() => {
  overload?.close();
  server?.closeAllConnections();
  server?.close();
});

/** A server that does nothing, and a process that is busy: its timers are late. */
const busy = { begin: -1_000, end: -1e9, full: 1, maximumShare: 1 };
async function startBusy(path = '') {
  const lines: unknown[] = [];
  overload = watchOverload({
    path,
    tls: true,
    waitMs: () => 0,
    bounds: { loop: busy, wait: bounds },
    logger: { warn: (...line: unknown[]) => void lines.push(line) } as never,
  });
  server = createServer(
    overload.guard((request, response) => {
      request.resume();
      response.end('served');
    }),
  );
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await expect.poll(async () => (await fetch(`${url}/x`)).status).toBe(503);
  return { url, lines };
}

it('refuses in the words of each edge, and says when to come again', async () => {
  const { url } = await startBusy();
  const body = new URLSearchParams({ subject_token: 'x' });
  const oauth = await fetch(`${url}/oauth/token?x`, { method: 'POST', body });
  expect([oauth.status, oauth.headers.get('retry-after'), oauth.headers.get('cache-control')]).toEqual([
    503,
    '2',
    'no-store',
  ]);
  expect(await oauth.json()).toMatchObject({ error: 'temporarily_unavailable' });
  const admin = await fetch(`${url}/admin/tokens`);
  expect([admin.status, admin.headers.get('retry-after'), admin.headers.get('content-type')]).toEqual([
    503,
    '2',
    'application/problem+json',
  ]);
  expect(await admin.json()).toMatchObject({ type: 'about:blank', status: 503 });
  for (const { headers } of [oauth, admin])
    for (const [name, value] of securityFields({ tls: true })) expect(headers.get(name)).toBe(value);
});

it.each(['', '/idm'])('serves what is watched and verified by in any case, under "%s"', async (path) => {
  const { url } = await startBusy(path);
  for (const kept of [
    '/health/live',
    '/health/ready?x',
    '/metrics',
    '/oauth/jwks',
    '/oauth/status-lists/0',
    '/.well-known/openid-configuration',
  ]) {
    const response = await fetch(url + path + kept);
    expect([kept, response.status, await response.text()]).toEqual([kept, 200, 'served']);
  }
  for (const refused of ['/oauth/jwks/x', '/metrics/x', '/oauth/token', '/']) {
    expect([refused, (await fetch(url + path + refused)).status]).toEqual([refused, 503]);
  }
});

it('counts what it refuses, and says so in the log, not once for each', async () => {
  const { url, lines } = await startBusy();
  const before = overload?.refused ?? 0;
  for (let count = 0; count < 20; count += 1) await fetch(`${url}/admin/tokens`);
  expect(overload?.refused).toBe(before + 20);
  await expect.poll(() => lines.length, { timeout: 5_000 }).toBeGreaterThan(0);
  expect(lines.length).toBeLessThan(5);
});

it('refuses where exchanges wait for the database, while the event loop has nothing to do', async () => {
  let waits = 0;
  overload = watchOverload({
    path: '',
    tls: false,
    waitMs: () => waits,
    bounds: { loop: { begin: 10_000, end: 9_000, full: 20_000, maximumShare: 1 }, wait: bounds },
    logger: { warn() {} },
  });
  const present = () => overload?.share;
  expect(present()).toBe(0);
  waits = 1_000;
  await expect.poll(present).toBe(bounds.maximumShare);
  expect(overload.waitMs).toBeGreaterThan(bounds.begin);
  waits = 0;
  await expect.poll(present).toBe(0);
});
