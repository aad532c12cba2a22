import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHarness, exchange, type Harness } from '../support/harness.ts';

let harness: Harness;
let machine: string;
const statuses: number[] = [];
const day = 86_400_000;

beforeAll(async () => {
  harness = await createHarness();
  machine = await harness.build.machineJwt();
});
afterAll(async () => {
  expect(statuses).not.toContain(500);
  await harness.close();
});

async function call(
  method: string,
  path: string,
  { as = machine, body }: { as?: string; body?: unknown } = {},
) {
  const response = await fetch(`${harness.url}/admin${path}`, {
    method,
    headers: {
      authorization: `Bearer ${as}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  statuses.push(response.status);
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: text ? JSON.parse(text) : undefined,
  };
}

/** A member of a fresh organization, and a fresh service. */
async function owner() {
  const { id: organizationId } = await harness.build.organization();
  const user = await harness.build.user({ organizationId });
  const service = await harness.build.service();
  return { organizationId, userId: user.id, service, jwt: await harness.build.userJwt(user.id) };
}
const pointersOf = (answer: { body: { errors?: { pointer: string }[] } }) =>
  answer.body.errors?.map(({ pointer }) => pointer).sort();
const names = (answer: { body: { data: { name: string }[] } }) => answer.body.data.map(({ name }) => name);
const byPointer = (a: { pointer: string }, b: { pointer: string }) => (a.pointer < b.pointer ? -1 : 1);
const revoke = (body: unknown, as = machine) => call('POST', '/tokens/revoke', { body, as });

describe('generating', () => {
  it('answers with the whole token object and the secret, which can be exchanged', async () => {
    const { organizationId, userId, service, jwt } = await owner();
    const answer = await call('POST', '/tokens', { as: jwt, body: { name: 'CI', service: service.id } });
    expect(answer.status).toBe(201);
    expect(answer.headers.get('location')).toBe(`http://issuer.test/admin/tokens/${answer.body.id}`);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.headers.get('content-type')).toMatch(/^application\/json/);
    expect(answer.body).toEqual({
      id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
      name: 'CI',
      service: { id: service.id, name: service.name },
      organization_id: organizationId,
      user_id: userId,
      scope: 'read write',
      hint: answer.body.token.slice(0, 8),
      status: 'active',
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      expires_at: expect.any(String),
      last_used_at: null,
      last_used_ip: null,
      revoked_at: null,
      revoked_by: null,
      token: expect.stringMatching(/^ptk_[0-9A-Za-z]{49}$/),
    });
    expect(Date.parse(answer.body.expires_at) - Date.parse(answer.body.created_at)).toBe(63_072_000_000);
    expect((await exchange(harness.url, answer.body.token)).status).toBe(200);
  });

  it('never shows the secret again', async () => {
    const { service, jwt } = await owner();
    const { body } = await call('POST', '/tokens', { as: jwt, body: { name: 'CI', service: service.id } });
    const { token, ...rest } = body;
    const got = await call('GET', `/tokens/${body.id}`, { as: jwt });
    expect([got.status, got.body]).toEqual([200, rest]);
    const list = await call('GET', '/tokens', { as: jwt });
    expect(list.body).toEqual({ data: [rest], next_cursor: null, total: 1 });
    expect(got.text + list.text).not.toContain(token.slice(8));
    expect(harness.logs()).not.toContain(token.slice(8));
  });

  it('needs no organization_id from a user with one membership, and one from a user with two', async () => {
    const { userId, service, jwt, organizationId } = await owner();
    const { id: second } = await harness.build.organization('Second');
    await harness.stores.memberships.put(second, userId, 'member', new Date());
    const refused = await call('POST', '/tokens', { as: jwt, body: { name: 'CI', service: service.id } });
    expect([refused.status, pointersOf(refused)]).toEqual([422, ['/organization_id']]);
    for (const organization_id of [organizationId, second]) {
      const answer = await call('POST', '/tokens', {
        as: jwt,
        body: { name: 'CI', service: service.id, organization_id },
      });
      expect([answer.status, answer.body.organization_id]).toEqual([201, organization_id]);
    }
    const { id: foreign } = await harness.build.organization();
    for (const organization_id of [foreign, uuidv7()]) {
      const answer = await call('POST', '/tokens', {
        as: jwt,
        body: { name: 'CI', service: service.id, organization_id },
      });
      expect([answer.status, pointersOf(answer)]).toEqual([422, ['/organization_id']]);
    }
  });

  it('refuses a machine that names no user or organization', async () => {
    const { organizationId, userId, service } = await owner();
    const body = { name: 'CI', service: service.id };
    expect(pointersOf(await call('POST', '/tokens', { body }))).toEqual(['/organization_id', '/user_id']);
    expect(pointersOf(await call('POST', '/tokens', { body: { ...body, user_id: userId } }))).toEqual([
      '/organization_id',
    ]);
    expect(
      pointersOf(await call('POST', '/tokens', { body: { ...body, organization_id: organizationId } })),
    ).toEqual(['/user_id']);
    const both = await call('POST', '/tokens', {
      body: { ...body, organization_id: organizationId, user_id: userId },
    });
    expect([both.status, both.body.user_id]).toEqual([201, userId]);
  });

  it("refuses a user, even an organization's admin, who names somebody else", async () => {
    const { organizationId, userId, service } = await owner();
    const admin = await harness.build.user({ organizationId, role: 'admin' });
    const as = await harness.build.userJwt(admin.id);
    const answer = await call('POST', '/tokens', {
      as,
      body: { name: 'CI', service: service.id, user_id: userId },
    });
    expect([answer.status, pointersOf(answer)]).toEqual([422, ['/user_id']]);
    const own = await call('POST', '/tokens', {
      as,
      body: { name: 'CI', service: service.id, user_id: admin.id.toUpperCase() },
    });
    expect([own.status, own.body.user_id]).toEqual([201, admin.id]);
  });

  it.each([
    ['expires_at', { expires_at: '2099-01-01T00:00:00Z' }, ['/expires_at']],
    ['scope', { scope: 'admin' }, ['/scope']],
    ['one that may be a secret, which is not repeated', { [`ptk_${'a'.repeat(49)}`]: 1 }, ['']],
    ['several', { a: 1, 'b/c~d': 2 }, ['/a', '/b~1c~0d']],
    ['id', { id: uuidv7() }, ['/id']],
  ])('refuses unknown members: %s', async (_, more, pointers) => {
    const { service, jwt } = await owner();
    const answer = await call('POST', '/tokens', {
      as: jwt,
      body: { name: 'CI', service: service.id, ...more },
    });
    expect([answer.status, pointersOf(answer)]).toEqual([422, pointers]);
    expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect(answer.text).not.toContain('2099');
  });

  it('refuses __proto__ as an unknown member', async () => {
    const { service, jwt } = await owner();
    const body = `{"name":"CI","service":"${service.id}","__proto__":{"user_id":"x"}}`;
    const answer = await call('POST', '/tokens', { as: jwt, body });
    expect([answer.status, pointersOf(answer)]).toEqual([422, ['/__proto__']]);
  });

  it.each([
    ['empty', ''],
    ['only blanks', '   '],
    ['101 characters', 'a'.repeat(101)],
    ['101 emoji', '😀'.repeat(101)],
    ['NUL', 'a\0b'],
    ['a line break', 'a\nb'],
    ['DEL', 'a\x7fb'],
    ['C1', 'a\x85b'],
    ['a lone surrogate', 'a\ud800b'],
    ['a bidirectional override', 'invoice\u202efdp'],
    ['a bidirectional embedding', 'a\u202ab'],
    ['a bidirectional isolate', 'a\u2066b\u2069'],
    ['a zero-width space', 'a\u200bb'],
    ['a soft hyphen', 'a\u00adb'],
    ['a byte order mark', '\ufeffa'],
    ['a word joiner', 'a\u2060b'],
    ['a tag character', 'a\u{e0061}b'],
    ['a line separator', 'a\u2028b'],
    ['a paragraph separator', 'a\u2029'],
    ['a joiner between Latin letters', 'ad\u200dmin'],
    ['a joiner at the end', 'می\u200c'],
    ['a joiner after a blank', 'می \u200cخواهم'],
    ['two joiners', 'می\u200c\u200cخواهم'],
    ['only joiners', '\u200d\u200c'],
    ['only white space', '\u3000\u00a0\u2003'],
    ['only fillers', '\u3164\u115f '],
    ['only variation selectors', '\ufe0f'],
    ['only a blank of Braille', '\u2800'],
    ['a number', 5],
    ['null', null],
    ['an object', {}],
    ['a list', ['a']],
    ['nothing', undefined],
  ])('refuses a name: %s', async (_, name) => {
    const { service, jwt } = await owner();
    const answer = await call('POST', '/tokens', { as: jwt, body: { name, service: service.id } });
    expect([answer.status, pointersOf(answer)?.[0]]).toEqual([422, '/name']);
  });

  it.each([
    'a',
    'a'.repeat(100),
    '😀'.repeat(100),
    '<img src=x onerror=alert(1)>',
    "'; DROP TABLE users; --",
    'Ünï𝔠ødé 👩‍👩‍👧',
    'می\u200cخواهم',
    'क्\u200dष और क्\u200cष',
    '👩🏽\u200d💻 ❤️\u200d🔥 🏳️\u200d⚧️ 🐻\u200d❄️',
    '{{7*7}} <%= x %> %s',
  ])('keeps a name literally: %s', async (name) => {
    const { service, jwt } = await owner();
    const answer = await call('POST', '/tokens', { as: jwt, body: { name, service: service.id } });
    expect([answer.status, answer.body.name]).toEqual([201, name]);
    expect((await call('GET', `/tokens/${answer.body.id}`, { as: jwt })).body.name).toBe(name);
  });

  it('refuses an unknown service, and strangers, with 422', async () => {
    const { service, jwt, userId, organizationId } = await owner();
    const unknown = await call('POST', '/tokens', { as: jwt, body: { name: 'CI', service: 'nowhere' } });
    expect([unknown.status, unknown.body.type]).toEqual([
      422,
      'http://issuer.test/problems/service-not-found',
    ]);
    const bad = await call('POST', '/tokens', { as: jwt, body: { name: 'CI', service: 'No Slug' } });
    expect([bad.status, pointersOf(bad)]).toEqual([422, ['/service']]);
    const base = { name: 'CI', service: service.id };
    for (const names of [
      { organization_id: uuidv7(), user_id: userId },
      { organization_id: organizationId, user_id: uuidv7() },
      { organization_id: organizationId, user_id: (await harness.build.user()).id },
    ]) {
      const answer = await call('POST', '/tokens', { body: { ...base, ...names } });
      expect([answer.status, answer.body.type]).toEqual([422, 'http://issuer.test/problems/not-a-member']);
    }
    const malformed = await call('POST', '/tokens', {
      body: { ...base, organization_id: 'x', user_id: '1' },
    });
    expect([malformed.status, pointersOf(malformed)]).toEqual([422, ['/organization_id', '/user_id']]);
  });

  it.each(['service', 'organization', 'user'] as const)('refuses an inactive %s', async (what) => {
    const { service, userId, organizationId } = await owner();
    if (what === 'service') await harness.stores.services.update(service.id, { status: 'inactive' });
    if (what === 'organization')
      await harness.stores.organizations.update(organizationId, { status: 'inactive' });
    if (what === 'user') await harness.stores.users.update(userId, { status: 'inactive' });
    const body = { name: 'CI', service: service.id, organization_id: organizationId, user_id: userId };
    const answer = await call('POST', '/tokens', { body });
    expect([answer.status, answer.body.type]).toEqual([409, `http://issuer.test/problems/${what}-inactive`]);
  });

  it.each(['PATCH', 'PUT'])('refuses %s on a token with 405: expiry and scopes are fixed', async (method) => {
    const { id } = await harness.build.platformToken();
    const answer = await call(method, `/tokens/${id}`, { body: { name: 'new' } });
    expect(answer.status).toBe(405);
    expect(answer.headers.get('allow')?.split(', ').sort()).toEqual(['DELETE', 'GET', 'HEAD']);
    expect((await call('GET', `/tokens/${id}`)).body.name).toBe('CI');
    const anonymous = await fetch(`${harness.url}/admin/tokens/${id}`, { method });
    expect([anonymous.status, anonymous.headers.get('allow')]).toEqual([405, answer.headers.get('allow')]);
    await anonymous.body?.cancel();
  });
});

describe('the limit', () => {
  async function filled(active: number) {
    const it = await owner();
    for (let n = 0; n < active; n += 1) await harness.build.platformToken(it);
    return it;
  }

  it('refuses the 21st, not counting expired and revoked ones, nor other organizations', async () => {
    const { jwt, service, userId, organizationId } = await filled(19);
    const past = new Date(Date.now() - 800 * day);
    await harness.build.platformToken({ service, userId, organizationId, createdAt: past });
    await harness.build.platformToken({ service, userId, organizationId, revokedAt: new Date() });
    const body = { name: 'CI', service: service.id };
    const twentieth = await call('POST', '/tokens', { as: jwt, body });
    expect(twentieth.status).toBe(201);
    const refused = await call('POST', '/tokens', { as: jwt, body });
    expect(refused.status).toBe(409);
    expect(refused.body.type).toMatch(/\/token-limit-reached$/);
    expect(refused.headers.get('location')).toBeNull();
    const { id: second } = await harness.build.organization();
    await harness.stores.memberships.put(second, userId, 'member', new Date());
    expect(
      (await call('POST', '/tokens', { as: jwt, body: { ...body, organization_id: second } })).status,
    ).toBe(201);
    expect((await call('DELETE', `/tokens/${twentieth.body.id}`, { as: jwt })).status).toBe(204);
    expect(
      (await call('POST', '/tokens', { as: jwt, body: { ...body, organization_id: organizationId } })).status,
    ).toBe(201);
  });

  it('gives one of fifty parallel requests the twentieth token, on two instances', async () => {
    const { jwt, service } = await filled(19);
    const other = await harness.another();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) =>
        fetch(`${n % 2 ? harness.url : other.url}/admin/tokens`, {
          method: 'POST',
          headers: { authorization: `Bearer ${jwt}`, 'content-type': 'application/json' },
          body: JSON.stringify({ name: `n${n}`, service: service.id }),
        }),
      ),
    );
    await other.close();
    const counts = Object.groupBy(answers, ({ status }) => String(status));
    expect([counts['201']?.length, counts['409']?.length]).toEqual([1, 49]);
    expect((await call('GET', '/tokens?status=active', { as: jwt })).body.total).toBe(20);
  });
});

describe('listing', () => {
  it('filters by each, and by all together', async () => {
    const a = await owner();
    const other = await harness.build.service();
    const { id: second } = await harness.build.organization();
    await harness.stores.memberships.put(second, a.userId, 'member', new Date());
    const colleague = await harness.build.user({ organizationId: a.organizationId });
    const make = (name: string, organizationId: string, userId: string, service = a.service) =>
      harness.build.platformToken({ name, organizationId, userId, service });
    await make('one', a.organizationId, a.userId);
    await make('two', a.organizationId, a.userId, other);
    await make('three', second, a.userId);
    await make('four', a.organizationId, colleague.id);
    const list = async (query: string) => names(await call('GET', `/tokens?sort=created_at&${query}`));
    expect(await list(`organization_id=${a.organizationId}`)).toEqual(['one', 'two', 'four']);
    expect(await list(`user_id=${a.userId}`)).toEqual(['one', 'two', 'three']);
    expect(await list(`service=${other.id}`)).toEqual(['two']);
    expect(await list(`service=${other.id}&service=${a.service.id}`)).toEqual([
      'one',
      'two',
      'three',
      'four',
    ]);
    expect(
      await list(
        `user_id=${a.userId}&organization_id=${a.organizationId}&service=${a.service.id}&q=ONE&status=active`,
      ),
    ).toEqual(['one']);
    expect(await list(`user_id=${a.userId}&q=four`)).toEqual([]);
    expect(await list(`organization_id=${uuidv7()}`)).toEqual([]);
    expect(await list(`service=nowhere`)).toEqual([]);
  });

  it('takes q literally, in any case', async () => {
    const { jwt, ...mine } = await owner();
    for (const name of ['50% off', '50 off', 'a_b', 'axb', 'C:\\dir', 'C:dir', 'ÄRGER', 'Straße', "it's"]) {
      await harness.build.platformToken({ ...mine, name });
    }
    const q = async (text: string) =>
      names(await call('GET', `/tokens?sort=created_at&q=${encodeURIComponent(text)}`, { as: jwt }));
    expect(await q('%')).toEqual(['50% off']);
    expect(await q('_')).toEqual(['a_b']);
    expect(await q('\\')).toEqual(['C:\\dir']);
    expect(await q('\\\\')).toEqual([]);
    expect(await q('0 OFF')).toEqual(['50 off']);
    expect(await q("'")).toEqual(["it's"]);
    expect(await q('ärger')).toEqual(['ÄRGER']);
    expect(await q('Ärg')).toEqual(['ÄRGER']);
    expect(await q('STRAßE')).toEqual(['Straße']);
  });

  it('shows active and expired ones unless asked otherwise', async () => {
    const { jwt, ...mine } = await owner();
    await harness.build.platformToken({ ...mine, name: 'active' });
    await harness.build.platformToken({
      ...mine,
      name: 'expired',
      createdAt: new Date(Date.now() - 731 * day),
    });
    await harness.build.platformToken({ ...mine, name: 'revoked', revokedAt: new Date() });
    await harness.build.platformToken({
      ...mine,
      name: 'both',
      createdAt: new Date(Date.now() - 731 * day),
      revokedAt: new Date(),
    });
    const list = async (query: string) => names(await call('GET', `/tokens?${query}`, { as: jwt })).sort();
    expect(await list('')).toEqual(['active', 'expired']);
    expect(await list('status=active')).toEqual(['active']);
    expect(await list('status=expired')).toEqual(['expired']);
    expect(await list('status=revoked')).toEqual(['both', 'revoked']);
    expect(await list('status=revoked&status=active')).toEqual(['active', 'both', 'revoked']);
    expect(await list('status=revoked&status=active&status=expired')).toEqual([
      'active',
      'both',
      'expired',
      'revoked',
    ]);
    const { body } = await call('GET', '/tokens?status=expired&status=revoked', { as: jwt });
    expect(
      Object.fromEntries(body.data.map((t: { name: string; status: string }) => [t.name, t.status])),
    ).toEqual({
      expired: 'expired',
      revoked: 'revoked',
      both: 'revoked',
    });
  });

  it.each([
    ['created_at', ['c', 'a', 'B']],
    ['-created_at', ['B', 'a', 'c']],
    ['name', ['a', 'B', 'c']],
    ['-name', ['c', 'B', 'a']],
    ['last_used_at', ['a', 'c', 'B']],
    ['-last_used_at', ['B', 'c', 'a']],
    ['expires_at', ['B', 'a', 'c']],
    ['-expires_at', ['c', 'a', 'B']],
  ])('sorts by %s, and walks the pages in that order', async (sort, wanted) => {
    const { jwt, ...mine } = await owner();
    const at = (n: number) => new Date(Date.now() - n * day);
    const make = async (name: string, created: number, expires: number, used: number | undefined) => {
      const { id } = await harness.build.platformToken({
        ...mine,
        name,
        createdAt: at(created),
        expiresAt: at(-expires),
      });
      if (used !== undefined)
        await harness.database
          .knex('platform_token_uses')
          .where({ token_id: id })
          .update({ last_used_at: at(used) });
    };
    await make('c', 30, 30, 20);
    await make('a', 20, 20, undefined);
    await make('B', 10, 10, 5);
    expect(names(await call('GET', `/tokens?sort=${sort}`, { as: jwt }))).toEqual(wanted);
    const walked: string[] = [];
    let cursor = '';
    do {
      const page = await call(
        'GET',
        `/tokens?sort=${sort}&limit=1${cursor && `&cursor=${encodeURIComponent(cursor)}`}`,
        { as: jwt },
      );
      walked.push(...names(page));
      cursor = page.body.next_cursor;
    } while (cursor);
    expect(walked).toEqual(wanted);
  });

  it.each([
    'limit=0',
    'limit=101',
    'limit=-1',
    'limit=1.5',
    'limit=x',
    'limit=',
    'limit=1&limit=2',
    'limit=0x10',
    'limit=1e1',
    'limit=%201',
    'limit=1%0A',
    'limit=%2B1',
    'limit=1.0',
    'limit=%D9%A1',
    'sort=id',
    'sort=--name',
    'sort=name&sort=name',
    'status=gone',
    'status=',
    'service=No%20Slug',
    'organization_id=x',
    'user_id=',
    'unknown=1',
    'q=%01',
    'Limit=5',
    'offset=5',
    '__proto__=1',
  ])('refuses the query %s', async (query) => {
    const answer = await call('GET', `/tokens?${query}`);
    expect([answer.status, answer.body.type]).toEqual([400, 'about:blank']);
    expect(answer.body.errors.length).toBeGreaterThan(0);
  });

  it('takes limits of 1 and 100, and 50 where none is given', async () => {
    const { jwt, ...mine } = await owner();
    for (let n = 0; n < 102; n += 1) await harness.build.platformToken(mine);
    for (const [query, length] of [
      ['limit=1', 1],
      ['limit=100', 100],
      ['', 50],
    ] as const) {
      const { body } = await call('GET', `/tokens?${query}`, { as: jwt });
      expect([body.data.length, body.total, typeof body.next_cursor]).toEqual([length, 102, 'string']);
    }
  });

  it.each(['created_at', '-created_at', 'name', '-name', 'last_used_at', 'expires_at'])(
    'walks every row once by %s while others are inserted and deleted, with ties',
    async (sort) => {
      const { jwt, ...mine } = await owner();
      const createdAt = new Date();
      const stable = new Set<string>();
      const doomed: string[] = [];
      for (let n = 0; n < 60; n += 1) {
        const { id } = await harness.build.platformToken({ ...mine, name: `n${n % 3}`, createdAt });
        if (n % 5 === 0) doomed.push(id);
        else stable.add(id);
      }
      const seen: string[] = [];
      let cursor = '';
      do {
        const page = await call('GET', `/tokens?sort=${sort}&limit=7${cursor && `&cursor=${cursor}`}`, {
          as: jwt,
        });
        expect(page.status).toBe(200);
        seen.push(...page.body.data.map(({ id }: { id: string }) => id));
        cursor = page.body.next_cursor;
        await harness.database
          .knex('platform_tokens')
          .where({ id: doomed.pop() ?? uuidv7() })
          .delete();
        await harness.build.platformToken({ ...mine, name: `n${seen.length % 4}`, createdAt: new Date() });
      } while (cursor);
      expect(new Set(seen).size).toBe(seen.length);
      expect([...stable].filter((id) => !seen.includes(id))).toEqual([]);
    },
  );

  it('refuses cursors of other lists, of another order, garbled ones, and those that no database reads', async () => {
    const { jwt, ...mine } = await owner();
    for (let n = 0; n < 3; n += 1) await harness.build.platformToken(mine);
    const { body } = await call('GET', '/tokens?limit=1', { as: jwt });
    const cursor = body.next_cursor as string;
    expect((await call('GET', `/tokens?limit=1&cursor=${cursor}`, { as: jwt })).status).toBe(200);
    const made = (...parts: unknown[]) => Buffer.from(JSON.stringify(parts)).toString('base64url');
    const id = uuidv7();
    const organizations = (await call('GET', '/organizations?limit=1')).body.next_cursor;
    const times = [
      'x',
      '',
      'now',
      'infinity',
      '2024-02-30 00:00:00+00',
      '0000-01-01 00:00:00+00',
      '2024-01-01 24:00:00+00',
      '2024-01-01 00:00:60+00',
      '2024-13-01 00:00:00+00',
      '2024-01-01 00:00:00+23',
      '2024-01-01 00:00:00+99:99',
      '2024-01-01T00:00:00Z',
      '-infinity ',
    ];
    const bad = [
      ['', ' '],
      ['', 'x'],
      ['', '%'],
      ['', `${cursor.slice(0, 20)}`],
      ['', organizations],
      ['sort=name&', cursor],
      ['sort=created_at&', cursor],
      ...times.map((time) => ['', made('-created_at', time, id)]),
      ['', made('-created_at', '2024-01-01 00:00:00+00', 'x')],
      ['', made('-created_at', '2024-01-01 00:00:00+00')],
      ['', made('-created_at', 5, id)],
      ['', made('-created_at', '2024-01-01 00:00:00+00', id, 'more')],
      ['sort=name&', made('name', 'a\0b', id)],
      ['', Buffer.from('null').toString('base64url')],
      ['', 'a'.repeat(2000)],
    ];
    for (const [query, text] of bad) {
      const answer = await call('GET', `/tokens?${query}cursor=${encodeURIComponent(String(text))}`, {
        as: jwt,
      });
      expect([text, answer.status, pointersOf(answer)]).toEqual([text, 400, ['/cursor']]);
    }
    expect(
      (await call('GET', `/tokens?sort=name&cursor=${made('name', '\ud800', id)}`, { as: jwt })).status,
    ).toBe(200);
  });
});

describe('revoking', () => {
  it('is 204, and 204 again, and the exchange is refused at once', async () => {
    const { jwt, ...mine } = await owner();
    const { id, token } = await harness.build.platformToken(mine);
    expect((await exchange(harness.url, token)).status).toBe(200);
    const first = await call('DELETE', `/tokens/${id}`, { as: jwt });
    expect([first.status, first.text]).toEqual([204, '']);
    expect((await exchange(harness.url, token)).status).toBe(400);
    const read = async () => (await call('GET', `/tokens/${id}`, { as: jwt })).body;
    // The use is written behind the answer; after it nothing of the token changes by itself.
    await expect.poll(async () => (await read()).last_used_at).not.toBeNull();
    const body = await read();
    expect(body).toMatchObject({
      status: 'revoked',
      revoked_by: mine.userId,
      revoked_at: expect.any(String),
    });
    expect((await call('DELETE', `/tokens/${id}`)).status).toBe(204);
    expect((await call('GET', `/tokens/${id}`)).body).toEqual(body);
    expect((await call('GET', `/audit-events?token_id=${id}&action=token.revoked`)).body.total).toBe(1);
    expect((await call('DELETE', `/tokens/${uuidv7()}`)).status).toBe(404);
  });

  it('by ids: counts what changed, names what is not there and what is foreign, in any case', async () => {
    const { jwt, ...mine } = await owner();
    const [a, b, c] = [
      await harness.build.platformToken(mine),
      await harness.build.platformToken(mine),
      await harness.build.platformToken(mine),
    ];
    const foreign = await harness.build.platformToken();
    const nowhere = uuidv7();
    const answer = await revoke(
      { ids: [a.id, a.id, b.id.toUpperCase(), foreign.id, nowhere, nowhere], reason: 'laptop lost' },
      jwt,
    );
    expect(answer.status).toBe(200);
    expect({ ...answer.body, not_found: answer.body.not_found.toSorted() }).toEqual({
      revoked: 2,
      not_found: [foreign.id, nowhere].sort(),
    });
    for (const [token, status] of [
      [a.token, 400],
      [b.token, 400],
      [c.token, 200],
      [foreign.token, 200],
    ] as const) {
      expect((await exchange(harness.url, token)).status).toBe(status);
    }
    expect((await revoke({ ids: [a.id] }, jwt)).body).toEqual({ revoked: 0, not_found: [] });
    await revoke({ ids: [c.id], reason: `leaked ${c.token}, see mail` }, jwt);
    const { body: trail } = await call('GET', `/audit-events?token_id=${c.id}`);
    expect(trail.data[0]).toMatchObject({ reason: 'leaked [redacted], see mail' });
    const events = await call('GET', `/audit-events?token_id=${b.id}`);
    expect(events.body.data[0]).toMatchObject({
      action: 'token.revoked',
      reason: 'laptop lost',
      actor: { type: 'user', id: mine.userId },
      organization_id: mine.organizationId,
    });
  });

  it.each([
    ['nothing', {}, ''],
    ['only a reason', { reason: 'x' }, ''],
    ['no ids', { ids: [] }, '/ids'],
    ['101 ids', { ids: Array.from({ length: 101 }, () => uuidv7()) }, '/ids'],
    ['ids that are none', { ids: [uuidv7(), 'x'] }, '/ids/1'],
    ['ids and a filter', { ids: [uuidv7()], user_id: uuidv7() }, '/user_id'],
    ['an unknown member', { user_id: uuidv7(), status: 'active' }, '/status'],
    ['a bad filter', { organization_id: 'x' }, '/organization_id'],
    ['a null filter', { organization_id: null }, '/organization_id'],
    ['a long reason', { user_id: uuidv7(), reason: 'x'.repeat(501) }, '/reason'],
    ['NUL in the reason', { user_id: uuidv7(), reason: '\0' }, '/reason'],
    ['a line separator in the reason', { user_id: uuidv7(), reason: 'a\u2028b' }, '/reason'],
    ['a bidirectional override in the reason', { user_id: uuidv7(), reason: 'a\u202eb' }, '/reason'],
    ['a list', [], ''],
    ['a string', '"all"', ''],
  ])('refuses %s with 422', async (_, body, pointer) => {
    const { id } = await harness.build.platformToken();
    const answer = await revoke(body);
    expect(answer.status).toBe(422);
    expect(pointersOf(answer)).toContain(pointer);
    expect((await call('GET', `/tokens/${id}`)).body.status).toBe('active');
  });

  it.each([
    ['101 ids', { ids: Array.from({ length: 101 }, () => uuidv7()) }, ['/ids']],
    ['ids that are none', { ids: ['x', 'y'] }, ['/ids/0', '/ids/1']],
    ['no list of ids', { ids: uuidv7() }, ['/ids']],
    ['ids and an unknown member', { ids: [], status: 'active' }, ['/ids', '/status']],
    ['nothing', {}, ['']],
    ['an unknown member', { status: 'active' }, ['', '/status']],
  ])('speaks of what is there: %s', async (_, body, pointers) => {
    const answer = await revoke(body);
    expect([answer.status, pointersOf(answer)]).toEqual([422, pointers]);
  });

  it('says that ids and a filter exclude each other', async () => {
    const filter = { organization_id: uuidv7(), user_id: uuidv7(), service: 'strings' };
    for (const members of [['user_id'], ['organization_id', 'service', 'user_id']] as const) {
      const chosen = Object.fromEntries(members.map((member) => [member, filter[member]]));
      const answer = await revoke({ ids: [uuidv7()], ...chosen });
      expect(answer.body.errors.toSorted(byPointer)).toEqual(
        members.map((member) => ({
          pointer: `/${member}`,
          detail: 'ids and a filter exclude each other',
        })),
      );
    }
  });

  it('by filter: what matches all of its members, and nothing else', async () => {
    const a = await owner();
    const b = await harness.build.service();
    const colleague = await harness.build.user({ organizationId: a.organizationId });
    const mine = await harness.build.platformToken(a);
    const otherService = await harness.build.platformToken({ ...a, service: b });
    const theirs = await harness.build.platformToken({ ...a, userId: colleague.id });
    const elsewhere = await harness.build.platformToken({ service: a.service });
    const body = {
      organization_id: a.organizationId,
      user_id: a.userId,
      service: a.service.id,
      reason: 'offboarding',
    };
    expect((await revoke(body)).body).toEqual({ revoked: 1, not_found: [] });
    const active = async () =>
      (
        await Promise.all(
          [mine, otherService, theirs, elsewhere].map(({ id }) => call('GET', `/tokens/${id}`)),
        )
      ).map((answer) => answer.body.status === 'active');
    expect(await active()).toEqual([false, true, true, true]);
    expect((await revoke({ organization_id: a.organizationId })).body.revoked).toBe(2);
    expect(await active()).toEqual([false, false, false, true]);
    expect((await revoke({ service: a.service.id })).body.revoked).toBe(1);
    expect((await revoke({ user_id: uuidv7() })).body.revoked).toBe(0);
  });

  it('in parallel, in every order, each token once and without a deadlock', async () => {
    const { jwt: _, ...mine } = await owner();
    const ids: string[] = [];
    for (let n = 0; n < 100; n += 1) ids.push((await harness.build.platformToken(mine)).id);
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, n) =>
        revoke(n % 3 === 0 ? { user_id: mine.userId } : { ids: n % 3 === 1 ? ids : ids.toReversed() }),
      ),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(answers.reduce((sum, { body }) => sum + body.revoked, 0)).toBe(100);
    expect(
      (await call('GET', `/audit-events?organization_id=${mine.organizationId}&action=token.revoked`)).body
        .total,
    ).toBe(100);
  });
});

describe('who sees what', () => {
  it("a member their own tokens; the organization's admin all of it, and revokes them; neither another organization's", async () => {
    const { organizationId, userId, jwt, service } = await owner();
    const admin = await harness.build.user({ organizationId, role: 'admin' });
    const adminJwt = await harness.build.userJwt(admin.id);
    const members = await harness.build.platformToken({ organizationId, userId, service, name: 'members' });
    const admins = await harness.build.platformToken({
      organizationId,
      userId: admin.id,
      service,
      name: 'admins',
    });
    const { id: second } = await harness.build.organization();
    await harness.stores.memberships.put(second, userId, 'member', new Date());
    const elsewhere = await harness.build.platformToken({
      organizationId: second,
      userId,
      service,
      name: 'elsewhere',
    });
    expect(names(await call('GET', '/tokens?sort=name', { as: jwt }))).toEqual(['elsewhere', 'members']);
    expect(names(await call('GET', '/tokens?sort=name', { as: adminJwt }))).toEqual(['admins', 'members']);
    expect((await call('GET', `/tokens?user_id=${admin.id}`, { as: jwt })).body.total).toBe(0);
    for (const method of ['GET', 'DELETE']) {
      expect((await call(method, `/tokens/${admins.id}`, { as: jwt })).status).toBe(404);
      expect((await call(method, `/tokens/${elsewhere.id}`, { as: adminJwt })).status).toBe(404);
    }
    expect((await revoke({ ids: [admins.id] }, jwt)).body).toEqual({ revoked: 0, not_found: [admins.id] });
    expect((await revoke({ organization_id: organizationId }, jwt)).body.revoked).toBe(1);
    expect((await exchange(harness.url, admins.token)).status).toBe(200);
    const again = await harness.build.platformToken({ organizationId, userId, service });
    expect((await call('DELETE', `/tokens/${again.id}`, { as: adminJwt })).status).toBe(204);
    expect((await exchange(harness.url, again.token)).status).toBe(400);
    expect((await call('GET', `/tokens/${members.id}`, { as: adminJwt })).body.revoked_by).toBe(userId);
  });

  it.each(['created_at', 'name', 'last_used_at', 'expires_at'].flatMap((by) => [by, `-${by}`]))(
    'who is an admin here and a member there, what is theirs there and all of it here: by %s',
    async (sort) => {
      const { userId, jwt, service, organizationId: here } = await owner();
      await harness.stores.memberships.put(here, userId, 'admin', new Date());
      const { id: there } = await harness.build.organization();
      await harness.stores.memberships.put(there, userId, 'member', new Date());
      const { id: elsewhere } = await harness.build.organization();
      const others = [];
      for (const [organizationId, name] of [
        [here, 'here'],
        [there, 'there'],
        [elsewhere, 'elsewhere'],
      ] as const) {
        const other = await harness.build.user({ organizationId, role: 'member' });
        others.push(other.id);
        await harness.build.platformToken({
          organizationId,
          userId: other.id,
          service,
          name: `other's, ${name}`,
        });
        if (organizationId === elsewhere) continue;
        await harness.build.platformToken({ organizationId, userId, service, name: `own, ${name}` });
      }
      const seen = async (as: string, filter = '') => {
        const { body } = await call('GET', `/tokens?sort=${sort}${filter}`, { as });
        const found = body.data.map(({ name }: { name: string }) => name).sort();
        expect(body.total).toBe(found.length);
        return found;
      };
      expect(await seen(jwt)).toEqual(["other's, here", 'own, here', 'own, there']);
      expect(await seen(jwt, `&organization_id=${here}`)).toEqual(["other's, here", 'own, here']);
      expect(await seen(jwt, `&organization_id=${there}`)).toEqual(['own, there']);
      expect(await seen(jwt, `&organization_id=${elsewhere}`)).toEqual([]);
      expect(await seen(await harness.build.userJwt(String(others[1])))).toEqual(["other's, there"]);
    },
  );

  it('a former member nothing, at once', async () => {
    const { organizationId, userId, jwt, ...rest } = await owner();
    const { id } = await harness.build.platformToken({ organizationId, userId, service: rest.service });
    expect((await call('GET', `/tokens/${id}`, { as: jwt })).status).toBe(200);
    await harness.stores.memberships.remove(organizationId, userId);
    expect((await call('GET', `/tokens/${id}`, { as: jwt })).status).toBe(404);
    expect((await call('GET', '/tokens', { as: jwt })).body.total).toBe(0);
  });

  it.each(['member', 'admin'] as const)(
    'a %s nothing of an organization while it is inactive; machines all',
    async (role) => {
      const { organizationId, userId, jwt, ...rest } = await owner();
      await harness.stores.memberships.put(organizationId, userId, role, new Date());
      const { id } = await harness.build.platformToken({ organizationId, userId, service: rest.service });
      const set = async (status: string) => {
        const answer = await call('PATCH', `/organizations/${organizationId}`, { body: { status } });
        expect(answer.status).toBe(200);
      };
      await set('inactive');
      expect((await call('GET', '/me', { as: jwt })).body.memberships).toEqual([]);
      expect((await call('GET', '/tokens', { as: jwt })).body.total).toBe(0);
      expect((await call('DELETE', `/tokens/${id}`, { as: jwt })).status).toBe(404);
      expect((await call('GET', `/tokens/${id}`)).body.status).toBe('active');
      await set('active');
      expect((await call('DELETE', `/tokens/${id}`, { as: jwt })).status).toBe(204);
    },
  );
});

it.each(['x', '1', '0', '../users', '%2e%2e%2fusers', 'ffffffff', "'--", '%F0%9F%98%80', 'a'.repeat(4000)])(
  'answers 404 to the malformed id %s',
  async (id) => {
    for (const method of ['GET', 'DELETE']) {
      const answer = await call(method, `/tokens/${encodeURIComponent(decodeURIComponent(id))}`);
      expect([method, answer.status, answer.body.title]).toEqual([method, 404, 'Not Found']);
    }
  },
);
it.each(['%00', 'a%00', '%', '%ff', '%ed%a0%80'])('answers 4xx to %s in the path', async (id) => {
  const answer = await call('GET', `/tokens/${id}`);
  expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
  expect([400, 404]).toContain(answer.status);
});
