import fc from 'fast-check';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHarness, type Harness } from '../support/harness.ts';

const issuer = 'http://issuer.test/id%20m';
let harness: Harness;
let machine: string;
const statuses: number[] = [];

beforeAll(async () => {
  harness = await createHarness({ env: { ISSUER: issuer } });
  machine = await harness.build.machineJwt();
});
afterAll(async () => {
  expect(statuses).not.toContain(500);
  await harness.close();
});

interface Listed {
  id: string;
  user_id: string;
  name: string;
}
interface Answer {
  status: number;
  link: string | null;
  next: string | undefined;
  prev: string | undefined;
  body: { data: Listed[]; next_cursor: string | null; total: number };
}

/** A page by its path below /admin, or by the URL of a link. */
async function get(target: string, as = machine, init: RequestInit = {}): Promise<Answer> {
  const path = target.startsWith(issuer) ? target.slice(issuer.length) : `/admin${target}`;
  const response = await fetch(`${harness.url}${path}`, {
    ...init,
    headers: { authorization: `Bearer ${as}`, ...(init.headers as Record<string, string>) },
  });
  statuses.push(response.status);
  const text = await response.text();
  const link = response.headers.get('link');
  const links = [...(link ?? '').matchAll(/<([^>]+)>; rel="(\w+)"/g)];
  const to = (rel: string) => links.find(([, , named]) => named === rel)?.[1];
  return {
    status: response.status,
    link,
    next: to('next'),
    prev: to('prev'),
    body: text ? JSON.parse(text) : undefined,
  };
}

async function walk(start: string, rel: 'next' | 'prev', as = machine): Promise<Answer[]> {
  const pages = [await get(start, as)];
  for (let target = pages[0]?.[rel]; target; target = pages.at(-1)?.[rel]) pages.push(await get(target, as));
  for (const { status } of pages) expect(status).toBe(200);
  return pages;
}

/** To the end and back: the same pages both ways, which hold every row once, in order. */
async function expectSameBothWays(list: string, limit: number, as = machine) {
  const all = (await get(`${list}&limit=100`, as)).body;
  const forward = await walk(`${list}&limit=${limit}`, 'next', as);
  const rows = forward.flatMap(({ body }) => body.data);
  expect(rows).toEqual(all.data);
  expect(forward.map(({ body }) => body.data.length)).toEqual(
    Array.from({ length: Math.max(1, Math.ceil(rows.length / limit)) }, (_, index) =>
      Math.min(limit, rows.length - index * limit),
    ),
  );
  for (const [index, { body, next, prev }] of forward.entries()) {
    const last = index === forward.length - 1;
    expect([body.next_cursor === null, next === undefined, prev === undefined, body.total]).toEqual([
      last,
      last,
      index === 0,
      all.total,
    ]);
    if (next) expect(new URL(next).searchParams.get('cursor')).toBe(body.next_cursor);
  }
  const lastPrev = forward.at(-1)?.prev;
  if (!lastPrev) return;
  const back = (await walk(lastPrev, 'prev', as)).reverse();
  expect(back.map(({ body }) => body)).toEqual(forward.slice(0, -1).map(({ body }) => body));
  expect(back.map(({ next }) => next)).toEqual(forward.slice(0, -1).map(({ next }) => next));
}

async function owner() {
  const { id: organizationId } = await harness.build.organization();
  const user = await harness.build.user({ organizationId });
  const service = await harness.build.service();
  return { organizationId, userId: user.id, service, jwt: await harness.build.userJwt(user.id) };
}
const ids = ({ body }: Answer) => body.data.map(({ id }) => id);
const cursorOf = (url: string | undefined) =>
  JSON.parse(Buffer.from(new URL(String(url)).searchParams.get('cursor') ?? '', 'base64url').toString());
const deleteToken = (id: string) => harness.database.knex('platform_tokens').where({ id }).delete();

describe('there and back gives the same pages', () => {
  const start = Date.UTC(2026, 0, 1);
  const minutes = (count: number) => new Date(start + count * 60_000);
  const token = fc.record({
    name: fc.constantFrom('a', 'A', 'b', 'ä'),
    created: fc.nat(2),
    expires: fc.nat(1),
    used: fc.option(fc.nat(1), { nil: undefined }),
  });

  const sorts = ['created_at', 'name', 'last_used_at', 'expires_at'].flatMap((sort) => [sort, `-${sort}`]);

  it('of tokens, by every sort, with equal values', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(token, { maxLength: 12 }),
        fc.integer({ min: 1, max: 5 }),
        async (rows, n) => {
          const { jwt, ...mine } = await owner();
          for (const { name, created, expires, used } of rows) {
            const expiresAt = new Date(minutes(expires).getTime() + 730 * 86_400_000);
            const { id } = await harness.build.platformToken({
              ...mine,
              name,
              createdAt: minutes(created),
              expiresAt,
            });
            if (used !== undefined) {
              const change = { last_used_at: minutes(used) };
              await harness.database.knex('platform_token_uses').where({ token_id: id }).update(change);
            }
          }
          for (const sort of sorts) await expectSameBothWays(`/tokens?sort=${sort}`, n, jwt);
        },
      ),
      { numRuns: 12 },
    );
  });

  it('of what a search over all organizations finds', async () => {
    const { jwt: _, ...mine } = await owner();
    const marker = uuidv7();
    for (let n = 0; n < 8; n += 1) {
      const createdAt = minutes(n % 3);
      const { id } = await harness.build.platformToken({ ...mine, name: `${n % 2} ${marker}`, createdAt });
      if (n % 4 === 0)
        await harness.database
          .knex('platform_token_uses')
          .where({ token_id: id })
          .update({ last_used_at: minutes(n) });
    }
    expect((await get(`/tokens?q=${marker}`)).body.total).toBe(8);
    for (const sort of sorts) await expectSameBothWays(`/tokens?q=${marker}&sort=${sort}`, 3);
  });

  it('of members, who joined in one moment', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(2), { maxLength: 12 }),
        fc.integer({ min: 1, max: 5 }),
        async (joined, limit) => {
          const { id } = await harness.build.organization();
          for (const minute of joined) {
            const user = await harness.build.user();
            await harness.stores.memberships.put(id, user.id, 'member', minutes(minute));
          }
          await expectSameBothWays(`/organizations/${id}/members?`, limit);
        },
      ),
      { numRuns: 15 },
    );
  });

  it.each(['/organizations?', '/users?', '/services?', '/clients?', '/audit-events?'])(
    'of %s',
    async (list) => {
      for (let n = 0; n < 3; n += 1) {
        const { organizationId, userId } = await harness.build.platformToken();
        await harness.build.client(['admin']);
        await get('/tokens');
        await fetch(`${harness.url}/admin/organizations/${organizationId}/members/${userId}`, {
          method: 'DELETE',
          headers: { authorization: `Bearer ${machine}` },
        });
      }
      // Of many rows: the last page is reached backwards once, where the walk would be long.
      const { body } = await get(`${list}limit=100`);
      expect(body.total).toBeGreaterThan(2);
      const filter = list === '/users?' ? `q=${encodeURIComponent(String(body.data[0]?.name))}&` : '';
      await expectSameBothWays(`${list}${filter}`, 2);
    },
  );
});

describe('while rows come and go', () => {
  it('going back meets every row that stays, once', async () => {
    const { jwt, ...mine } = await owner();
    const createdAt = new Date();
    const stable = new Set<string>();
    const doomed: string[] = [];
    for (let n = 0; n < 40; n += 1) {
      const { id } = await harness.build.platformToken({ ...mine, name: `n${n % 3}`, createdAt });
      if (n % 5 === 0) doomed.push(id);
      else stable.add(id);
    }
    for (const sort of ['-created_at', 'name', '-last_used_at']) {
      const end = (await walk(`/tokens?sort=${sort}&limit=7`, 'next', jwt)).at(-1);
      const seen = end ? ids(end) : [];
      for (let target = end?.prev; target; ) {
        const page = await get(target, jwt);
        seen.push(...ids(page));
        await deleteToken(doomed.pop() ?? uuidv7());
        await harness.build.platformToken({ ...mine, name: `n${seen.length % 4}` });
        target = page.prev;
      }
      expect(new Set(seen).size).toBe(seen.length);
      expect([...stable].filter((id) => !seen.includes(id))).toEqual([]);
    }
  });

  it('there is no way back to rows that have all gone', async () => {
    const { jwt, ...mine } = await owner();
    for (let n = 0; n < 4; n += 1) await harness.build.platformToken(mine);
    const first = await get('/tokens?limit=2', jwt);
    expect((await get(String(first.next), jwt)).prev).toBeDefined();
    for (const id of ids(first)) await deleteToken(id);
    const second = await get(String(first.next), jwt);
    expect([second.body.data.length, second.prev, second.link]).toEqual([2, undefined, null]);
  });

  it('a page whose rows have all gone still leads back, to the row before it too', async () => {
    const { jwt, ...mine } = await owner();
    for (let n = 0; n < 5; n += 1) await harness.build.platformToken(mine);
    const first = await get('/tokens?limit=2', jwt);
    const second = await get(String(first.next), jwt);
    const third = await get(String(second.next), jwt);
    for (const id of ids(third)) await deleteToken(id);
    const emptied = await get(String(second.next), jwt);
    expect([emptied.body.data, emptied.body.next_cursor, emptied.next]).toEqual([[], null, undefined]);
    const back = await get(String(emptied.prev), jwt);
    expect([ids(back), back.body.next_cursor, back.next]).toEqual([ids(second), null, undefined]);
    expect(ids(await get(String(back.prev), jwt))).toEqual(ids(first));

    for (const id of [...ids(first), ...ids(second)]) await deleteToken(id);
    const nothing = await get(String(second.next), jwt);
    expect([nothing.body, nothing.link]).toEqual([{ data: [], next_cursor: null, total: 0 }, null]);
  });

  it('a page before, whose rows have all gone, leads on to the row that it was before', async () => {
    const { jwt, ...mine } = await owner();
    for (let n = 0; n < 5; n += 1) await harness.build.platformToken(mine);
    const first = await get('/tokens?limit=2', jwt);
    const second = await get(String(first.next), jwt);
    for (const id of ids(first)) await deleteToken(id);
    const emptied = await get(String(second.prev), jwt);
    expect([emptied.body.data, emptied.prev, emptied.body.total]).toEqual([[], undefined, 3]);
    const on = await get(String(emptied.next), jwt);
    expect([ids(on), on.prev]).toEqual([ids(second), undefined]);
    expect(on.body.next_cursor).not.toBeNull();
    expect(ids(await get(`/tokens?limit=2&cursor=${emptied.body.next_cursor}`, jwt))).toEqual(ids(second));
  });

  it('a page that was reached backwards says what follows it now', async () => {
    const { jwt, ...mine } = await owner();
    for (let n = 0; n < 4; n += 1) await harness.build.platformToken(mine);
    const first = await get('/tokens?limit=2', jwt);
    const second = await get(String(first.next), jwt);
    const again = await get(String(second.prev), jwt);
    expect([ids(again), again.body.next_cursor, again.prev]).toEqual([
      ids(first),
      first.body.next_cursor,
      undefined,
    ]);
    for (const id of ids(second)) await deleteToken(id);
    const alone = await get(String(second.prev), jwt);
    expect([ids(alone), alone.body.next_cursor, alone.link]).toEqual([ids(first), null, null]);
  });
});

describe('a link', () => {
  it('is the same query at the issuer, whatever Host says, with repeated parameters', async () => {
    const { jwt, ...mine } = await owner();
    const other = await harness.build.service();
    for (let n = 0; n < 3; n += 1)
      await harness.build.platformToken({ ...mine, name: `50% "a&b" ünïcode <${n}>` });
    const q = '50% "a&b" ünï';
    const query = [
      `service=${mine.service.id}`,
      'limit=1',
      'status=active',
      `service=${other.id}`,
      'status=revoked',
      `q=${encodeURIComponent(q).replaceAll('%20', '+')}`,
    ].join('&');
    const headers = {
      host: 'evil.example',
      'x-forwarded-host': 'evil.example',
      'x-forwarded-proto': 'https',
    };
    const first = await get(`/tokens?${query}`, jwt, { headers });
    const second = await get(String(first.next), jwt, { headers });
    for (const url of [first.next, second.next, second.prev]) {
      const { origin, pathname, searchParams } = new URL(String(url));
      expect(`${origin}${pathname}`).toBe(`${issuer}/admin/tokens`);
      expect([...searchParams].filter(([name]) => name !== 'cursor')).toEqual([
        ['service', mine.service.id],
        ['limit', '1'],
        ['status', 'active'],
        ['service', other.id],
        ['status', 'revoked'],
        ['q', q],
      ]);
      expect(searchParams.getAll('cursor')).toHaveLength(1);
    }
    expect(second.link).toBe(`<${second.next}>; rel="next", <${second.prev}>; rel="prev"`);
    expect(ids(await get(String(second.prev), jwt))).toEqual(ids(first));
  });

  it('has the ids of the path in one spelling', async () => {
    const { id } = await harness.build.organization();
    for (let n = 0; n < 3; n += 1) await harness.build.user({ organizationId: id });
    const { next } = await get(`/organizations/${id.toUpperCase().replace('-', '%2D')}/members?limit=1`);
    expect(String(next).split('?')[0]).toBe(`${issuer}/admin/organizations/${id}/members`);
    expect((await get(String(next))).prev).toBeDefined();
  });

  it('is there for HEAD too, and on no answer that is no list', async () => {
    const { jwt, ...mine } = await owner();
    const { id } = await harness.build.platformToken(mine);
    await harness.build.platformToken(mine);
    const head = await get('/tokens?limit=1', jwt, { method: 'HEAD' });
    expect([head.status, typeof head.next, head.prev]).toEqual([200, 'string', undefined]);
    for (const path of [`/tokens/${id}`, '/me', '/tokens']) expect((await get(path, jwt)).link).toBeNull();
    expect((await get('/tokens?limit=1&cursor=x', jwt)).link).toBeNull();
  });

  it('gives way where a proxy would refuse the answer for it: `next` first, which the body has', async () => {
    const { jwt, ...mine } = await owner();
    for (let n = 0; n < 3; n += 1) await harness.build.platformToken({ ...mine, name: '😀'.repeat(99) });
    const list = async (repeated: number) => {
      const q = encodeURIComponent('😀'.repeat(repeated));
      const first = await get(`/tokens?limit=1&sort=name&q=${q}`, jwt);
      const target = `/tokens?limit=1&sort=name&q=${q}&cursor=${first.body.next_cursor}`;
      return get(target, jwt);
    };
    const both = await list(1);
    expect([typeof both.next, typeof both.prev]).toEqual(['string', 'string']);
    const one = await list(99);
    expect([one.next, typeof one.prev, typeof one.body.next_cursor]).toEqual([undefined, 'string', 'string']);
    const services = Array.from({ length: 60 }, () => `service=${'s'.repeat(64)}`).join('&');
    const none = await get(`/tokens?limit=1&service=${mine.service.id}&${services}`, jwt);
    expect([none.status, none.link, typeof none.body.next_cursor]).toEqual([200, null, 'string']);
  });
});

describe('a cursor', () => {
  it('without a direction goes on working, and is what leads on', async () => {
    const { jwt, ...mine } = await owner();
    for (let n = 0; n < 3; n += 1) await harness.build.platformToken(mine);
    const all = ids(await get('/tokens', jwt));
    const page = await get('/tokens?limit=1', jwt);
    expect(cursorOf(page.next)).toEqual(['-created_at', expect.any(String), all[0]]);
    const [sort, value] = cursorOf(page.next);
    const old = Buffer.from(JSON.stringify([sort, value, all[0]])).toString('base64url');
    expect(ids(await get(`/tokens?limit=2&cursor=${old}`, jwt))).toEqual(all.slice(1));
  });

  it.each(['after', 'BEFORE', '', 'more', null, 1, ['before'], {}])(
    'of the direction %j is none of ours',
    async (side) => {
      const parts = ['-created_at', '2026-01-01 00:00:00+00', uuidv7(), side];
      const cursor = Buffer.from(JSON.stringify(parts)).toString('base64url');
      const { status, body } = await get(`/tokens?cursor=${cursor}`);
      expect([status, body]).toMatchObject([400, { errors: [{ pointer: '/cursor' }] }]);
    },
  );

  it('backwards is bound to its order, like every other', async () => {
    const { jwt, ...mine } = await owner();
    for (let n = 0; n < 3; n += 1) await harness.build.platformToken(mine);
    const [, second] = await walk('/tokens?limit=1', 'next', jwt);
    const cursor = new URL(String(second?.prev)).searchParams.get('cursor');
    expect((await get(`/tokens?limit=1&cursor=${cursor}`, jwt)).status).toBe(200);
    for (const other of ['/tokens?sort=created_at&', '/tokens?sort=name&', '/services?']) {
      expect((await get(`${other}cursor=${cursor}`, jwt)).status).toBe(400);
    }
  });

  it('costs one statement more, and none is asked where there is no cursor', async () => {
    const { jwt, ...mine } = await owner();
    for (let n = 0; n < 3; n += 1) await harness.build.platformToken(mine);
    const statements = async (target: string) => {
      let count = 0;
      const listen = ({ sql }: { sql: string }) => {
        if (/platform_tokens/.test(sql)) count += 1;
      };
      harness.database.knex.on('query', listen);
      const page = await get(target, jwt);
      harness.database.knex.off('query', listen);
      return { count, page };
    };
    const first = await statements('/tokens?limit=1');
    const second = await statements(String(first.page.next));
    const back = await statements(String(second.page.prev));
    expect([first.count, second.count, back.count]).toEqual([2, 3, 3]);
  });
});
