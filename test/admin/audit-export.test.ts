import { once } from 'node:events';
import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { policy } from '../../config/policy.ts';
import { createHarness, type Harness } from '../support/harness.ts';

const pages = 120;
const total = pages * policy.exportPage + 7;
const organizationId = uuidv7();
const tokenId = uuidv7();
let harness: Harness;
let jwt: string;
beforeAll(async () => {
  harness = await createHarness();
  jwt = await harness.build.machineJwt();
  // Many at the same moment: the order goes by the id then.
  await harness.owner.knex.raw(
    `INSERT INTO exchange_events (id, at, organization_id, token_id, service_id, user_agent, count)
     SELECT gen_random_uuid(), date_trunc('second', now()) - (n / 1000) * interval '1 second', ?, ?, 'tms', repeat('x', 200), 1 + n % 3
     FROM generate_series(1, ?) n`,
    [organizationId, tokenId, total - 1],
  );
  await harness.owner.knex.raw(
    "INSERT INTO audit_events (id, at, action, actor_type, actor_id) VALUES (gen_random_uuid(), now(), 'test.done', 'user', E'a\\n\"b')",
  );
  await harness.owner.knex.raw('ANALYZE');
});
afterAll(() => harness.close());

const accept = { accept: 'application/x-ndjson' };
const get = (query = '', headers: Record<string, string> = accept, token = jwt) =>
  fetch(`${harness.url}/admin/audit-events${query}`, {
    headers: { authorization: `Bearer ${token}`, ...headers },
  });
const linesOf = async (response: Response) =>
  (await response.text())
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));

/** How often the trail was read since. */
function countReads() {
  let reads = 0;
  const count = ({ sql }: { sql: string }) => {
    if (sql.includes('audit_trail')) reads += 1;
  };
  harness.database.knex.on('query', count);
  /** How many it were when for a while there came no more. */
  async function settled(): Promise<number> {
    for (let before = -1; before !== reads; ) {
      before = reads;
      await delay(500);
    }
    return reads;
  }
  return { settled, stop: () => void harness.database.knex.off('query', count) };
}
async function open() {
  const sent = request(`${harness.url}/admin/audit-events`, {
    agent: false,
    headers: { authorization: `Bearer ${jwt}`, ...accept },
  });
  sent.on('error', () => {});
  sent.end();
  const [response] = await once(sent, 'response');
  return { sent, response };
}

it.each([['?limit=10'], ['?cursor=x'], ['?action=Nothing'], ['?from=yesterday']])(
  'refuses %s',
  async (query) => {
    const response = await get(query);
    expect([response.status, response.headers.get('content-type')]).toEqual([
      400,
      'application/problem+json',
    ]);
  },
);

it('is for who may read the list, and of what they see in it', async () => {
  expect((await get('', { ...accept }, 'nonsense')).status).toBe(401);
  const { id: mine } = await harness.build.organization();
  const admin = await harness.build.user({ organizationId: mine, role: 'admin' });
  const { id, token } = await harness.build.platformToken({ organizationId: mine });
  await harness.stores.exchangeEvents.insert([
    {
      id: uuidv7(),
      at: new Date(),
      organizationId: mine,
      tokenId: id,
      serviceId: 'x',
      ip: null,
      userAgent: null,
      requestId: null,
      count: 1,
    },
  ]);
  expect((await get('', accept, await harness.build.userJwt(admin.id, 'tokens:write'))).status).toBe(403);
  const seen = await linesOf(await get('', accept, await harness.build.userJwt(admin.id)));
  expect(seen.map(({ token_id }) => token_id)).toEqual([id]);
  const stranger = await harness.build.user({ organizationId: mine });
  expect(await linesOf(await get('', accept, await harness.build.userJwt(stranger.id)))).toEqual([]);
  expect(token).toBeDefined();
});

it('has every event that matches once, a line each, newest first, as the list has it', async () => {
  const response = await get(`?organization_id=${organizationId}`);
  expect(Object.fromEntries(response.headers)).toMatchObject({
    'content-type': 'application/x-ndjson',
    'cache-control': 'no-store',
    vary: expect.stringContaining('Accept'),
  });
  const lines = await linesOf(response);
  expect(lines).toHaveLength(total - 1);
  expect(new Set(lines.map(({ id }) => id)).size).toBe(total - 1);
  expect(lines.map(({ at }) => at)).toEqual(
    lines
      .map(({ at }) => at)
      .sort()
      .reverse(),
  );
  const page = (await (
    await get(`?organization_id=${organizationId}&limit=100`, { accept: '*/*' })
  ).json()) as { data: unknown[] };
  expect(lines.slice(0, 100)).toEqual(page.data);
  const [odd, ...more] = await linesOf(await get('?action=test.done'));
  expect([odd.actor.id, more]).toEqual(['a\n"b', []]);
});

async function countBusy(): Promise<number> {
  const { rows } = await harness.owner.knex.raw(
    "SELECT count(*)::int AS busy FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()",
  );
  return rows[0].busy;
}

it('reads no further than the client does, and holds no connection', async () => {
  const counted = countReads();
  const { sent, response } = await open();
  response.pause();
  // As much as the buffers between here and there take.
  expect(await counted.settled()).toBeLessThan(pages / 2);
  // A connection that is held stays busy; one that answers something else, at this moment, does not.
  await expect.poll(countBusy).toBe(0);
  let text = '';
  response.setEncoding('utf8');
  for await (const chunk of response) text += chunk;
  expect(text.split('\n').length - 1).toBeGreaterThanOrEqual(total);
  counted.stop();
  sent.destroy();
});

it('stops when the client goes away', async () => {
  const counted = countReads();
  const { sent, response } = await open();
  await once(response, 'data');
  sent.destroy();
  expect(await counted.settled()).toBeLessThan(pages / 2);
  counted.stop();
  expect(harness.logs()).not.toContain('unexpected error');
});

it('breaks off where the database does: what was sent is not taken for all', async () => {
  const { response } = await open();
  await once(response, 'data');
  response.pause();
  await harness.owner.knex.raw('REVOKE SELECT ON audit_trail FROM serving');
  const ended = once(response, 'end').then(() => 'complete');
  response.resume();
  await expect(ended).rejects.toThrow('aborted');
  expect((await get()).status).toBe(500);
  await harness.owner.knex.raw('GRANT SELECT ON audit_trail TO serving');
  expect((await get('?action=test.done')).status).toBe(200);
});
