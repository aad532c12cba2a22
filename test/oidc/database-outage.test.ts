import { createServer as createHttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import pino from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readConfig } from '../../config/env.ts';
import { policy } from '../../config/policy.ts';
import { createApp } from '../../server/app.ts';
import { loadDashboard } from '../../server/http/dashboard.ts';
import { createMetrics } from '../../server/metrics/metrics.ts';
import { createDatabase } from '../../server/storage/database.ts';
import { createStores } from '../../server/storage/stores.ts';
import { createDoor, type Door } from '../support/door.ts';
import { createHarness, exchange, type Harness, kek, postForm } from '../support/harness.ts';

/** The same database, behind a door that can be shut: an instance whose network or database is gone. */
let harness: Harness;
let door: Door;
let url: string;
let stop: () => Promise<void>;
let token: string;
let client: { id: string; secret: string };
let jwt: string;
const lines: string[] = [];

beforeAll(async () => {
  harness = await createHarness();
  door = await createDoor(new URL(harness.databaseUrl));
  const behind = door.urlOf(harness.databaseUrl);
  const database = createDatabase({ connectionString: behind });
  const logger = pino({ base: null }, { write: (line: string) => void lines.push(line) });
  const stores = createStores(database, () => {});
  const config = readConfig({
    GITHUB_SECRET_SCANNING_KEYS_URL: 'http://127.0.0.1:1/',
    DATABASE_URL: behind,
    KEY_ENCRYPTION_KEY: kek.toString('base64url'),
    ISSUER: harness.issuer,
  });
  const { sealer, keyRing } = harness;
  const metrics = createMetrics();
  const app = createApp({
    metrics,
    readMetrics: async () => metrics.read(),
    config,
    database,
    stores,
    sealer,
    keyRing,
    dashboard: await loadDashboard('dashboard/dist'),
    logger,
    clock: () => new Date(),
    stopping: () => false,
  });
  const server = createHttpServer(app.callback());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  stop = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await stores.usage.close();
    await database.close();
    await door.shut();
  };
  ({ token } = await harness.build.platformToken());
  client = await harness.build.client(['admin']);
  jwt = await harness.build.machineJwt();
  expect((await exchange(url, token)).status).toBe(200);
  expect((await fetch(`${url}/oauth/status-lists/0`)).status).toBe(200);
  await door.shut();
});
afterAll(async () => {
  await stop();
  await harness.close();
  const logs = lines.join('');
  expect(logs).toContain('"status":503');
  expect(logs).not.toMatch(/"status":500|unexpected error/);
});

const past = (seconds: number) => new Promise((resolve) => setTimeout(resolve, seconds * 1000 + 100));
async function expectKept() {
  const response = await fetch(`${url}/oauth/status-lists/0`);
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('application/statuslist+jwt');
  await response.body?.cancel();
}

it('an exchange without the database is 503, again and again, and never a token', async () => {
  for (let round = 0; round < 8; round += 1) {
    const response = await exchange(url, token);
    const body = (await response.json()) as Record<string, unknown>;
    expect([response.status, body.error]).toEqual([503, 'temporarily_unavailable']);
    expect(response.headers.get('retry-after')).toMatch(/^[1-9]\d*$/);
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(body).not.toHaveProperty('access_token');
    // Nothing of the inside is told.
    expect(JSON.stringify(body)).not.toMatch(/test_|postgres|ECONN|127\.0/i);
  }
});

it('concurrent exchanges without the database are all 503', async () => {
  const answers = await Promise.all(Array.from({ length: 40 }, () => exchange(url, token)));
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([503]));
  for (const answer of answers) await answer.body?.cancel();
});

it('client authentication without the database is 503, never invalid_client', async () => {
  const authorization = `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString('base64')}`;
  const response = await postForm(url, { grant_type: 'client_credentials' }, { authorization });
  const body = (await response.json()) as Record<string, unknown>;
  expect([response.status, body.error]).toEqual([503, 'temporarily_unavailable']);
  expect(response.headers.get('retry-after')).toMatch(/^[1-9]\d*$/);
});

it('introspection without the database is 503, never inactive', async () => {
  const authorization = `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString('base64')}`;
  const response = await postForm(url, { token: jwt }, { authorization }, '/oauth/introspect');
  const body = (await response.json()) as Record<string, unknown>;
  expect([response.status, body.error]).toEqual([503, 'temporarily_unavailable']);
  expect(response.headers.get('retry-after')).toMatch(/^[1-9]\d*$/);
  expect(body).not.toHaveProperty('active');
});

it('revocation without the database is 503, never done', async () => {
  const response = await postForm(url, { token }, {}, '/oauth/revoke');
  expect([response.status, ((await response.json()) as { error: string }).error]).toEqual([
    503,
    'temporarily_unavailable',
  ]);
  expect(response.headers.get('retry-after')).toMatch(/^[1-9]\d*$/);
});

it('a leak report without the keys of GitHub is 503, never refused for good', async () => {
  const response = await fetch(`${url}/leaks/github`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'github-public-key-identifier': 'a',
      'github-public-key-signature': 'AAAA',
    },
    body: '[]',
  });
  expect(response.status).toBe(503);
  expect(response.headers.get('retry-after')).toMatch(/^[1-9]\d*$/);
  expect(await response.json()).toMatchObject({ detail: expect.stringContaining('GitHub') });
});

it('the admin API without the database is 503 as a problem', async () => {
  const response = await fetch(`${url}/admin/tokens`, { headers: { authorization: `Bearer ${jwt}` } });
  expect(response.status).toBe(503);
  expect(response.headers.get('retry-after')).toMatch(/^[1-9]\d*$/);
  expect(response.headers.get('content-type')).toMatch(/^application\/problem\+json/);
  expect(await response.json()).toMatchObject({ status: 503 });
});

it('a malformed subject token is refused without asking the database', async () => {
  const response = await exchange(url, 'hello');
  expect([response.status, ((await response.json()) as { error: string }).error]).toEqual([
    400,
    'invalid_request',
  ]);
});

it.each([
  ['/oauth/jwks', 200],
  ['/.well-known/openid-configuration', 200],
  ['/.well-known/oauth-authorization-server', 200],
  ['/health/live', 200],
  ['/health/ready', 503],
])('%s answers %d without the database', async (path, status) => {
  const response = await fetch(url + path);
  expect(response.status).toBe(status);
  expect(response.headers.has('retry-after')).toBe(status === 503);
  await response.body?.cancel();
});

it('the last status list is served without the database, and none is made up', async () => {
  await expectKept();
  const response = await fetch(`${url}/oauth/status-lists/1`);
  expect([response.status, response.headers.has('retry-after')]).toEqual([503, true]);
  await response.body?.cancel();
});

it('exchanges go on by themselves when the database is back', async () => {
  await door.open();
  await expect
    .poll(
      async () => {
        const response = await exchange(url, token);
        await response.body?.cancel();
        return response.status;
      },
      { timeout: 10_000, interval: 100 },
    )
    .toBe(200);
});

it('the exchange whose usage could not be written during the outage is in the audit trail afterwards', async () => {
  const events = () => harness.database.knex('exchange_events').select('id');
  await expect.poll(async () => (await events()).length, { timeout: 10_000 }).toBeGreaterThanOrEqual(2);
});

it('everything that needs a database that does not answer is 503 within seconds, and recovers', async () => {
  const authorization = `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString('base64')}`;
  const ask = () => [
    ...Array.from({ length: 12 }, () => exchange(url, token)),
    ...Array.from({ length: 12 }, () =>
      postForm(url, { grant_type: 'client_credentials', scope: 'admin' }, { authorization }),
    ),
    ...Array.from({ length: 12 }, () =>
      fetch(`${url}/admin/tokens`, { headers: { authorization: `Bearer ${jwt}` } }),
    ),
  ];
  const statuses = async () =>
    new Set(
      (await Promise.all(ask())).map((response) => {
        void response.body?.cancel();
        return response.status;
      }),
    );
  expect(await statuses()).toEqual(new Set([200]));
  await past(policy.statusListMaxAge);
  door.stall();
  const before = Date.now();
  await expectKept();
  // Sooner than a verifier gives up.
  expect(Date.now() - before).toBeLessThan(4_000);
  expect(await statuses()).toEqual(new Set([503]));
  // From then on nobody waits: it is known, and asked for by one question at a time.
  const known = Date.now();
  for (let round = 0; round < 5; round += 1) expect(await statuses()).toEqual(new Set([503]));
  // Each would take three seconds.
  expect(Date.now() - known).toBeLessThan(10_000);
  expect((await fetch(`${url}/health/ready`)).status).toBe(503);
  door.release();
  await expect.poll(statuses, { timeout: 10_000 }).toEqual(new Set([200]));
}, 50_000);

describe('a token whose COMMIT was answered, and the answer got lost', () => {
  async function create() {
    const { id: organizationId } = await harness.build.organization();
    const { id: userId } = await harness.build.user({ organizationId });
    const { id: service } = await harness.build.service();
    const body = { name: 'lost', service, organization_id: organizationId, user_id: userId };
    const response = await fetch(`${url}/admin/tokens`, {
      method: 'POST',
      headers: { authorization: `Bearer ${jwt}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const rows = () => harness.database.knex('platform_tokens').where({ user_id: userId });
    return { response, rows };
  }

  it('is shown, once PostgreSQL has said that it is there', async () => {
    door.loseCommits(1, { sent: true });
    const { response, rows } = await create();
    const { id, token: shown } = (await response.json()) as { id: string; token: string };
    expect([response.status, door.losing()]).toEqual([201, false]);
    expect(await rows()).toMatchObject([{ id, revoked_at: null }]);
    expect((await exchange(url, shown)).status).toBe(200);
  });

  it('is 503 where PostgreSQL cannot say, and revoked when it can, with its event', async () => {
    door.loseCommits(1, { sent: true, shuts: true });
    const { response, rows } = await create();
    expect([response.status, response.headers.has('retry-after')]).toEqual([503, true]);
    expect(await response.text()).not.toContain('ptk_');
    const [row] = await rows();
    expect(row).toMatchObject({ name: 'lost', revoked_at: null });
    await door.open();
    await expect.poll(async () => (await rows())[0].revoked_at).toBeInstanceOf(Date);
    const events = await harness.database
      .knex('audit_events')
      .where({ token_id: row.id })
      .orderBy('id')
      .select('action', 'actor_id');
    expect(events).toMatchObject([
      { action: 'token.created' },
      { action: 'token.revoked', actor_id: 'token-creation' },
    ]);
  }, 30_000);
});
