import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { verifyPassword } from '../../server/domain/password.ts';
import { createPlatformToken } from '../../server/domain/platform-token.ts';
import { createHarness, exchange, type Harness, postForm } from '../support/harness.ts';

let harness: Harness;
let machine: string;
const statuses: number[] = [];

beforeAll(async () => {
  harness = await createHarness({ env: { TRUST_PROXY: 'true' } });
  machine = await harness.build.machineJwt();
});
afterAll(async () => {
  expect(statuses).not.toContain(500);
  await harness.close();
});

interface Options {
  as?: string;
  body?: unknown;
  headers?: Record<string, string>;
}
async function call(method: string, path: string, { as = machine, body, headers = {} }: Options = {}) {
  const raw = typeof body === 'string' || body instanceof Uint8Array;
  const response = await fetch(`${harness.url}/admin${path}`, {
    method,
    headers: {
      authorization: `Bearer ${as}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: raw ? (body as string) : JSON.stringify(body) }),
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
const pointersOf = (answer: { body: { errors?: { pointer: string }[] } }) =>
  answer.body.errors?.map(({ pointer }) => pointer).sort();
const problem = (type: string) => `http://issuer.test/problems/${type}`;
const email = () => `${uuidv7()}@Example.com`;
const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
const actions = async (query: string) =>
  (await call('GET', `/audit-events?${query}`)).body.data
    .map(({ action }: { action: string }) => action)
    .reverse();

async function walk(path: string): Promise<unknown[]> {
  const all: unknown[] = [];
  let cursor = '';
  do {
    const page = await call('GET', `${path}?limit=2${cursor && `&cursor=${cursor}`}`);
    expect(page.status).toBe(200);
    all.push(...page.body.data);
    expect(page.body.total).toBeGreaterThanOrEqual(all.length);
    cursor = page.body.next_cursor;
  } while (cursor);
  return all;
}

describe('organizations', () => {
  it('are created, read, listed, renamed', async () => {
    const created = await call('POST', '/organizations', { body: { name: 'Acme' } });
    expect([created.status, created.body]).toEqual([
      201,
      { id: expect.any(String), name: 'Acme', status: 'active', created_at: time },
    ]);
    const { id } = created.body;
    expect((await call('GET', `/organizations/${id}`)).body).toEqual(created.body);
    const changed = await call('PATCH', `/organizations/${id}`, { body: { name: 'New' } });
    expect([changed.status, changed.body]).toEqual([200, { ...created.body, name: 'New' }]);
    for (let n = 0; n < 4; n += 1) await call('POST', '/organizations', { body: { name: `O${n}` } });
    const all = await walk('/organizations');
    expect(new Set(all.map((o) => (o as { id: string }).id)).size).toBe(all.length);
    expect(all).toContainEqual(changed.body);
    expect(
      (await call('GET', `/audit-events?organization_id=${id}`)).body.data
        .map((e: { action: string }) => e.action)
        .sort(),
    ).toEqual(['organization.created', 'organization.updated']);
  });

  it('stop exchanges while inactive, and allow them again', async () => {
    const { token, organizationId } = await harness.build.platformToken();
    for (const [status, wanted] of [
      ['inactive', 400],
      ['active', 200],
    ] as const) {
      const answer = await call('PATCH', `/organizations/${organizationId}`, { body: { status } });
      expect([answer.status, answer.body.status]).toEqual([200, status]);
      expect((await exchange(harness.url, token)).status).toBe(wanted);
    }
    expect(await actions(`organization_id=${organizationId}`)).toEqual(
      expect.arrayContaining(['organization.deactivated', 'organization.activated']),
    );
  });

  it.each([
    [{}, '/name'],
    [{ name: '' }, '/name'],
    [{ name: 'a\0' }, '/name'],
    [{ name: 'x', status: 'inactive' }, '/status'],
    [{ name: 'x', id: 1 }, '/id'],
  ])('refuse %j', async (body, pointer) => {
    const answer = await call('POST', '/organizations', { body });
    expect([answer.status, answer.body.type, pointersOf(answer)]).toEqual([422, 'about:blank', [pointer]]);
  });

  it('refuse a status that is none, and are 404 where there is none', async () => {
    const { id } = await harness.build.organization();
    const answer = await call('PATCH', `/organizations/${id}`, { body: { status: 'deleted' } });
    expect([answer.status, pointersOf(answer)]).toEqual([422, ['/status']]);
    for (const missing of [uuidv7(), 'x']) {
      expect((await call('GET', `/organizations/${missing}`)).status).toBe(404);
      expect((await call('PATCH', `/organizations/${missing}`, { body: { name: 'x' } })).status).toBe(404);
      expect((await call('GET', `/organizations/${missing}/members`)).status).toBe(404);
    }
  });
});

describe('users', () => {
  it('are created with a password that is never returned nor logged', async () => {
    const password = 'correct horse battery';
    const address = email();
    const created = await call('POST', '/users', { body: { email: address, name: 'Ann', password } });
    expect([created.status, created.body]).toEqual([
      201,
      {
        id: expect.any(String),
        email: address,
        name: 'Ann',
        kind: 'person',
        status: 'active',
        created_at: time,
      },
    ]);
    const got = await call('GET', `/users/${created.body.id}`);
    expect(got.body).toEqual(created.body);
    const patched = await call('PATCH', `/users/${created.body.id}`, {
      body: { password: 'another good one', name: 'Bea' },
    });
    expect([patched.status, patched.body]).toEqual([200, { ...created.body, name: 'Bea' }]);
    const hash = (await harness.stores.users.findCredentials(address.toUpperCase()))?.passwordHash;
    expect(hash).toMatch(/^\$2b\$12\$/);
    expect([await verifyPassword(password, hash), await verifyPassword('another good one', hash)]).toEqual([
      false,
      true,
    ]);
    expect(harness.logs() + created.text + got.text + patched.text).not.toMatch(
      /correct horse|another good|\$2b\$/,
    );
  });

  it('refuse an e-mail address that is taken, in any case', async () => {
    const address = email();
    const first = await call('POST', '/users', { body: { email: address, name: 'A' } });
    for (const taken of [address, address.toUpperCase(), address.toLowerCase()]) {
      const answer = await call('POST', '/users', { body: { email: taken, name: 'B' } });
      expect([answer.status, answer.body.type]).toEqual([409, problem('email-taken')]);
    }
    const second = await call('POST', '/users', { body: { email: email(), name: 'B' } });
    const answer = await call('PATCH', `/users/${second.body.id}`, {
      body: { email: address.toLowerCase() },
    });
    expect([answer.status, answer.body.type]).toEqual([409, problem('email-taken')]);
    expect(
      (await call('PATCH', `/users/${first.body.id}`, { body: { email: address.toLowerCase() } })).status,
    ).toBe(200);
  });

  it.each([
    ['a short password', { password: 'seven77' }, '/password'],
    ['a password of 73 bytes', { password: 'x'.repeat(73) }, '/password'],
    ['a password of 25 emoji, 100 bytes', { password: '😀'.repeat(25) }, '/password'],
    ['a password with NUL', { password: 'longenough\0x' }, '/password'],
    ['an e-mail address without @', { email: 'nobody' }, '/email'],
    ['an e-mail address with a blank', { email: 'a b@c' }, '/email'],
    ['an e-mail address with NUL', { email: 'a\0@c.de' }, '/email'],
    ['an e-mail address with a lone surrogate', { email: 'a\ud800@c.de' }, '/email'],
    ['an e-mail address with a zero-width space', { email: 'a\u200bb@c.de' }, '/email'],
    ['an e-mail address with a joiner', { email: 'a@می\u200cخ.de' }, '/email'],
    ['an e-mail address with a bidirectional override', { email: 'a@\u202ec.de' }, '/email'],
    [
      'an e-mail address with a platform token',
      { email: `${createPlatformToken('ptk').token}@c.de` },
      '/email',
    ],
    ['a password with a lone surrogate', { password: 'longenough\ud800' }, '/password'],
    ['a name with a bidirectional override', { name: 'a\u202eb' }, '/name'],
    ['a long e-mail address', { email: `a@${'x'.repeat(260)}` }, '/email'],
    ['another kind', { kind: 'robot' }, '/kind'],
    ['an unknown member', { role: 'admin' }, '/role'],
  ])('refuse %s', async (_, more, pointer) => {
    const answer = await call('POST', '/users', { body: { email: email(), name: 'A', ...more } });
    expect([answer.status, pointersOf(answer)]).toEqual([422, [pointer]]);
  });

  it('take a password of 72 bytes and of 8 characters', async () => {
    for (const password of ['x'.repeat(72), 'eight888']) {
      expect((await call('POST', '/users', { body: { email: email(), name: 'A', password } })).status).toBe(
        201,
      );
    }
  });

  it('refuse a password for a service account, at creation and later', async () => {
    const body = { email: email(), name: 'Bot', kind: 'service_account' };
    const refused = await call('POST', '/users', { body: { ...body, password: 'long enough' } });
    expect([refused.status, refused.body.type]).toEqual([422, problem('password-not-allowed')]);
    const { body: bot, status } = await call('POST', '/users', { body });
    expect([status, bot.kind]).toEqual([201, 'service_account']);
    expect((await call('PATCH', `/users/${bot.id}`, { body: { password: 'long enough' } })).status).toBe(422);
  });

  it('are found by a literal part of the name or the e-mail address', async () => {
    const key = uuidv7();
    const { body: a } = await call('POST', '/users', {
      body: { email: `${key}_x@example.com`, name: `100% ${key}` },
    });
    const { body: b } = await call('POST', '/users', {
      body: { email: `${key}ax@example.com`, name: `100 ${key}` },
    });
    const q = async (text: string) =>
      (await call('GET', `/users?q=${encodeURIComponent(text)}`)).body.data.map(
        ({ id }: { id: string }) => id,
      );
    expect(await q(`${key.toUpperCase()}_X`)).toEqual([a.id]);
    expect(await q(`100% ${key}`)).toEqual([a.id]);
    expect((await q(key)).sort()).toEqual([a.id, b.id].sort());
    expect(await q(`%${key}`)).toEqual([]);
    expect((await walk('/users')).length).toBe((await call('GET', '/users')).body.total);
  });

  it('stop exchanges while inactive, and allow them again', async () => {
    const { token, userId } = await harness.build.platformToken();
    for (const [status, wanted] of [
      ['inactive', 400],
      ['active', 200],
    ] as const) {
      expect((await call('PATCH', `/users/${userId}`, { body: { status } })).body.status).toBe(status);
      expect((await exchange(harness.url, token)).status).toBe(wanted);
    }
    expect((await call('GET', '/audit-events?action=user.deactivated')).body.data[0].target_id).toBe(userId);
  });
});

describe('members', () => {
  it('are added, change role, and are listed with it', async () => {
    const { id } = await harness.build.organization();
    const user = await harness.build.user();
    const path = `/organizations/${id}/members/${user.id}`;
    for (const role of ['member', 'admin', 'admin', 'member']) {
      const answer = await call('PUT', path, { body: { role } });
      expect([answer.status, answer.body]).toEqual([200, { organization_id: id, user_id: user.id, role }]);
      const { body } = await call('GET', `/organizations/${id}/members`);
      expect(body).toMatchObject({
        total: 1,
        next_cursor: null,
        data: [{ user_id: user.id, role, status: 'active', kind: 'person' }],
      });
    }
    for (let n = 0; n < 4; n += 1) await harness.build.user({ organizationId: id });
    expect(await walk(`/organizations/${id}/members`)).toHaveLength(5);
  });

  describe('are found', () => {
    async function team() {
      const { id } = await harness.build.organization();
      const make = async (name: string, address: string, organizationId = id) => {
        const body = { name, email: `${address}.${uuidv7()}@example.com` };
        const { body: user } = await call('POST', '/users', { body });
        await harness.stores.memberships.put(organizationId, user.id, 'member', new Date());
        return user.id as string;
      };
      const ann = await make('Ann 50% Ünal', 'ann_x');
      const bob = await make('Bob', 'bob');
      const { id: elsewhere } = await harness.build.organization();
      const stranger = await make('Ann 50% Ünal', 'ann_x', elsewhere);
      const admin = await harness.build.user({ organizationId: id, role: 'admin' });
      const member = await harness.build.user({ organizationId: id });
      const find = async (query: string, as?: string) => {
        const answer = await call('GET', `/organizations/${id}/members?${query}`, as ? { as } : {});
        return {
          ...answer,
          found: answer.body.data?.map(({ user_id }: { user_id: string }) => user_id) as string[],
        };
      };
      return { id, ann, bob, stranger, admin: admin.id, member: member.id, find };
    }

    it('by a literal part of the name or the e-mail address, in any case, here only', async () => {
      const { ann, bob, find } = await team();
      for (const [text, wanted] of [
        ['ANN', [ann]],
        ['ünAL', [ann]],
        ['0% ', [ann]],
        ['nn_x.', [ann]],
        ['BOB.', [bob]],
        ['b_b', []],
        ['%', [ann]],
        ['nobody', []],
      ] as const) {
        const answer = await find(`q=${encodeURIComponent(text)}`);
        expect([text, answer.status, answer.found, answer.body.total]).toEqual([
          text,
          200,
          wanted,
          wanted.length,
        ]);
      }
      expect((await find('q=')).body.total).toBe(4);
    });

    it('by their ids, in any case, and nobody else', async () => {
      const { ann, bob, stranger, find } = await team();
      const both = await find(
        `user_id=${bob}&user_id=${ann.toUpperCase()}&user_id=${stranger}&user_id=${uuidv7()}`,
      );
      expect([both.status, both.found, both.body.total]).toEqual([200, [ann, bob], 2]);
      expect((await find(`user_id=${ann}`)).found).toEqual([ann]);
      expect((await find(`user_id=${stranger}`)).body).toEqual({ data: [], next_cursor: null, total: 0 });
      expect((await find(`user_id=${ann}&user_id=${bob}&q=bob`)).found).toEqual([bob]);
      const hundred = [ann, ...Array.from({ length: 99 }, () => uuidv7())];
      expect((await find(hundred.map((one) => `user_id=${one}`).join('&'))).found).toEqual([ann]);
      const first = await find(`user_id=${ann}&user_id=${bob}&limit=1`);
      expect([first.found, first.body.total]).toEqual([[ann], 2]);
      const more = `user_id=${ann}&user_id=${bob}&limit=1&cursor=${first.body.next_cursor}`;
      expect((await find(more)).found).toEqual([bob]);
    });

    it("by an organization's admin, and by no other user", async () => {
      const { id, ann, admin, member, find } = await team();
      const as = await harness.build.userJwt(admin);
      expect((await find(`user_id=${ann}`, as)).found).toEqual([ann]);
      expect((await find('q=ann', as)).found).toEqual([ann]);
      const elsewhere = await harness.build.platformToken();
      await harness.stores.memberships.put(elsewhere.organizationId, elsewhere.userId, 'admin', new Date());
      for (const user of [member, elsewhere.userId]) {
        const other = await harness.build.userJwt(user);
        for (const query of [`user_id=${ann}`, `user_id=${user}`, 'q=ann']) {
          const answer = await call('GET', `/organizations/${id}/members?${query}`, { as: other });
          expect([answer.status, answer.body.title]).toEqual([404, 'Not Found']);
        }
      }
    });

    it.each([
      ['user_id=', '/user_id/0'],
      ['user_id=x', '/user_id/0'],
      [`user_id=${uuidv7()}&user_id=1`, '/user_id/1'],
      [Array.from({ length: 101 }, () => `user_id=${uuidv7()}`).join('&'), '/user_id'],
      ['q=%01', '/q'],
      ['q=a&q=b', '/q'],
      [`q=${'x'.repeat(501)}`, '/q'],
      ['role=admin', '/role'],
    ])('never by %s', async (query, pointer) => {
      const { find } = await team();
      const answer = await find(query);
      expect([answer.status, answer.body.type, pointersOf(answer)]).toEqual([400, 'about:blank', [pointer]]);
    });
  });

  it('refuse another role, strangers and unknown members', async () => {
    const { id } = await harness.build.organization();
    const user = await harness.build.user();
    const refused = await call('PUT', `/organizations/${id}/members/${user.id}`, { body: { role: 'owner' } });
    expect([refused.status, pointersOf(refused)]).toEqual([422, ['/role']]);
    for (const path of [
      `${uuidv7()}/members/${user.id}`,
      `${id}/members/${uuidv7()}`,
      `${id}/members/x`,
      `x/members/${user.id}`,
    ]) {
      expect((await call('PUT', `/organizations/${path}`, { body: { role: 'member' } })).status).toBe(404);
      expect((await call('DELETE', `/organizations/${path}`)).status).toBe(404);
    }
  });

  it('lose the tokens of that organization for good when removed', async () => {
    const { token, id, organizationId, userId, service } = await harness.build.platformToken();
    const { id: second } = await harness.build.organization();
    await harness.stores.memberships.put(second, userId, 'member', new Date());
    const kept = await harness.build.platformToken({ organizationId: second, userId, service });
    const path = `/organizations/${organizationId}/members/${userId}`;
    expect((await call('DELETE', path)).status).toBe(204);
    expect((await call('DELETE', path)).status).toBe(404);
    expect((await exchange(harness.url, token)).status).toBe(400);
    expect((await exchange(harness.url, kept.token)).status).toBe(200);
    expect((await call('PUT', path, { body: { role: 'member' } })).status).toBe(200);
    expect((await exchange(harness.url, token)).status).toBe(400);
    expect((await call('GET', `/tokens/${id}`)).body.status).toBe('revoked');
    expect((await call('GET', `/audit-events?token_id=${id}&action=token.revoked`)).body.data[0].reason).toBe(
      'membership removed',
    );
  });

  it('leave no active token when removed while twenty are being made', async () => {
    for (let round = 0; round < 3; round += 1) {
      const { id: organizationId } = await harness.build.organization();
      const user = await harness.build.user({ organizationId });
      const service = await harness.build.service();
      const as = await harness.build.userJwt(user.id);
      const body = { name: 'race', service: service.id };
      const creates = Array.from({ length: 20 }, () => call('POST', '/tokens', { as, body }));
      if (round > 0) await Promise.race(creates);
      const removal = await call('DELETE', `/organizations/${organizationId}/members/${user.id}`);
      const answers = await Promise.all(creates);
      expect(removal.status).toBe(204);
      for (const { status } of answers) expect([201, 422]).toContain(status);
      const { body: list } = await call('GET', `/tokens?organization_id=${organizationId}&status=active`);
      expect(list.total).toBe(0);
    }
  });
});

describe('services', () => {
  const make = (more: object = {}) => {
    const id = `s-${uuidv7()}`;
    return { id, name: 'S', audience: `https://${id}.example.com`, scopes: ['a', 'b'], ...more };
  };

  it('are created, read by any caller, changed', async () => {
    const body = make();
    const created = await call('POST', '/services', { body });
    expect([created.status, created.body]).toEqual([201, { ...body, status: 'active' }]);
    const as = await harness.build.userJwt((await harness.build.user()).id);
    expect((await call('GET', `/services/${body.id}`, { as })).body).toEqual(created.body);
    expect((await call('GET', '/services?limit=100', { as })).body.data).toContainEqual(created.body);
    const changed = await call('PATCH', `/services/${body.id}`, { body: { name: 'T', scopes: ['c'] } });
    expect([changed.status, changed.body]).toEqual([200, { ...created.body, name: 'T', scopes: ['c'] }]);
    expect((await walk('/services')).length).toBe((await call('GET', '/services')).body.total);
    expect((await call('GET', '/services/nowhere')).status).toBe(404);
    expect((await call('GET', '/services/No%20Slug')).status).toBe(404);
  });

  it('refuse an id and an audience that are taken', async () => {
    const body = make();
    await call('POST', '/services', { body });
    const id = await call('POST', '/services', { body: make({ id: body.id }) });
    expect([id.status, id.body.type]).toEqual([409, problem('service-taken')]);
    const audience = await call('POST', '/services', { body: make({ audience: body.audience }) });
    expect([audience.status, audience.body.type]).toEqual([409, problem('audience-taken')]);
  });

  it.each([
    'http://issuer.test',
    'http://issuer.test/',
    'http://issuer.test/admin',
    'http://issuer.test/admin/',
    'HTTP://ISSUER.test/admin',
    'http://issuer.test:80/admin',
  ])("refuse the server's own audience %s", async (audience) => {
    const answer = await call('POST', '/services', { body: make({ audience }) });
    expect([answer.status, answer.body.type]).toEqual([409, problem('audience-taken')]);
  });

  it.each([
    ['id', 'Upper'],
    ['id', '-a'],
    ['id', 'a-'],
    ['id', ''],
    ['id', 'a'.repeat(65)],
    ['id', 'ä'],
    ['audience', 'relative'],
    ['audience', ''],
    ['audience', 'https://x/#f'],
    ['audience', 'https://x y'],
    ['audience', `https://${'x'.repeat(600)}`],
    ['audience', 'https://x\0'],
    ['scopes', 'a b'],
    ['scopes', ['a', 'a']],
    ['scopes', []],
    ['name', ''],
    ['status', 'active'],
  ])('refuse %s %j', async (member, value) => {
    const answer = await call('POST', '/services', { body: make({ [member]: value }) });
    expect([answer.status, new Set(pointersOf(answer))]).toEqual([422, new Set([`/${member}`])]);
  });

  it.each([['a b'], [''], ['a"b'], ['ä'], ['x'.repeat(65)], ['a\0']])(
    'refuse the scope %j',
    async (scope) => {
      const answer = await call('POST', '/services', { body: make({ scopes: ['ok', scope] }) });
      expect([answer.status, pointersOf(answer)]).toEqual([422, ['/scopes/1']]);
    },
  );

  it('keep at least one scope', async () => {
    const { id, scopes } = await harness.build.service();
    const answer = await call('PATCH', `/services/${id}`, { body: { scopes: [] } });
    expect([answer.status, pointersOf(answer)]).toEqual([422, ['/scopes']]);
    expect((await call('GET', `/services/${id}`)).body.scopes).toEqual(scopes);
  });

  it('keep id and audience', async () => {
    const { id } = await harness.build.service();
    const answer = await call('PATCH', `/services/${id}`, { body: { id: 'x', audience: 'https://x' } });
    expect([answer.status, pointersOf(answer)]).toEqual([422, ['/audience', '/id']]);
  });

  it('give new scopes to tokens made from then on, and stop exchanges while inactive', async () => {
    const { token, id, service, organizationId, userId } = await harness.build.platformToken();
    expect(
      (await call('PATCH', `/services/${service.id}`, { body: { scopes: ['read', 'new'] } })).status,
    ).toBe(200);
    expect((await call('GET', `/tokens/${id}`)).body.scope).toBe('read write');
    const made = await call('POST', '/tokens', {
      body: { name: 'x', service: service.id, organization_id: organizationId, user_id: userId },
    });
    expect(made.body.scope).toBe('read new');
    for (const [status, wanted] of [
      ['inactive', 400],
      ['active', 200],
    ] as const) {
      await call('PATCH', `/services/${service.id}`, { body: { status } });
      expect((await exchange(harness.url, token)).status).toBe(wanted);
    }
  });
});

describe('clients', () => {
  const credentials = (id: string, secret: string) =>
    postForm(
      harness.url,
      { grant_type: 'client_credentials', scope: 'admin' },
      {
        authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`,
      },
    );
  const body = { name: 'Deploy', grant_types: ['client_credentials'], scope: 'admin' };

  it('are created with a secret that works and is shown this once', async () => {
    const created = await call('POST', '/clients', { body });
    expect(created.status).toBe(201);
    const { client_secret, ...rest } = created.body;
    expect(client_secret).toMatch(/^[\w-]{43}$/);
    expect(rest).toEqual({
      client_id: expect.any(String),
      name: 'Deploy',
      grant_types: ['client_credentials'],
      scope: 'admin',
      redirect_uris: [],
      service: null,
      created_at: time,
    });
    const answer = await credentials(rest.client_id, client_secret);
    expect(answer.status).toBe(200);
    const { access_token } = (await answer.json()) as { access_token: string };
    expect((await call('GET', '/organizations', { as: access_token })).status).toBe(200);
    const got = await call('GET', `/clients/${rest.client_id}`);
    expect(got.body).toEqual(rest);
    const list = await call('GET', '/clients?limit=100');
    expect(list.body.data).toContainEqual(rest);
    expect(got.text + list.text + harness.logs()).not.toContain(client_secret);
    expect((await walk('/clients')).length).toBe(list.body.total);
  });

  it('rotate their secret: the old one is refused, the new one works', async () => {
    const { body: client } = await call('POST', '/clients', { body });
    const rotated = await call('POST', `/clients/${client.client_id}/rotate-secret`);
    expect([rotated.status, rotated.headers.get('cache-control')]).toEqual([200, 'no-store']);
    expect(rotated.body.client_secret).not.toBe(client.client_secret);
    const old = await credentials(client.client_id, client.client_secret);
    expect([old.status, ((await old.json()) as { error: string }).error]).toEqual([401, 'invalid_client']);
    expect((await credentials(client.client_id, rotated.body.client_secret)).status).toBe(200);
    expect((await call('POST', '/clients/nobody/rotate-secret')).status).toBe(404);
  });

  it('keep their secret where a rotation says what cannot be understood', async () => {
    const { body: client } = await call('POST', '/clients', { body });
    const path = `/clients/${client.client_id}/rotate-secret`;
    const dry = await call('POST', path, { body: { dry_run: true } });
    expect([dry.status, pointersOf(dry)]).toEqual([422, ['/dry_run']]);
    expect((await call('POST', path, { body: 'garbage{' })).status).toBe(400);
    expect((await credentials(client.client_id, client.client_secret)).status).toBe(200);
    expect((await call('POST', path, { body: {} })).status).toBe(200);
  });

  it('are changed and deleted, and then refused everywhere', async () => {
    const service = await harness.build.service();
    const { body: client } = await call('POST', '/clients', { body });
    const path = `/clients/${client.client_id}`;
    const granted = await credentials(client.client_id, client.client_secret);
    const { access_token: as } = (await granted.json()) as { access_token: string };
    const changed = await call('PATCH', path, { body: { name: 'New', service: service.id } });
    expect([changed.status, changed.body]).toMatchObject([
      200,
      { name: 'New', service: service.id, scope: 'admin' },
    ]);
    expect(changed.body.client_secret).toBeUndefined();
    expect((await call('DELETE', path)).status).toBe(204);
    expect((await call('DELETE', path)).status).toBe(404);
    expect((await call('GET', path)).status).toBe(404);
    expect((await call('PATCH', path, { body: { name: 'x' } })).status).toBe(404);
    expect((await credentials(client.client_id, client.client_secret)).status).toBe(401);
    expect((await call('GET', '/organizations', { as })).status).toBe(401);
    expect((await call('GET', '/audit-events?limit=100')).body.data).toContainEqual(
      expect.objectContaining({ action: 'client.deleted', target_id: client.client_id }),
    );
  });

  it.each([
    [{ grant_types: ['password'] }, '/grant_types/0'],
    [{ grant_types: 'client_credentials' }, '/grant_types'],
    [{ grant_types: 5 }, '/grant_types'],
    [{ grant_types: null }, '/grant_types'],
    [{ redirect_uris: 5 }, '/redirect_uris'],
    [{ scope: 'everything' }, '/scope'],
    [{ grant_types: ['authorization_code'] }, '/redirect_uris'],
    [{ redirect_uris: ['http://example.com/cb'] }, '/redirect_uris/0'],
    [{ redirect_uris: ['javascript:alert(1)'] }, '/redirect_uris/0'],
    [{ redirect_uris: ['https://example.com/#f'] }, '/redirect_uris/0'],
    [{ redirect_uris: ['https://*/cb'] }, '/redirect_uris/0'],
    [{ redirect_uris: ['https://x;frame-ancestors/cb'] }, '/redirect_uris/0'],
    [{ client_id: 'admin' }, '/client_id'],
    [{ client_secret: 'x' }, '/client_secret'],
    [{ service: 'No Slug' }, '/service'],
  ])('refuse %j', async (more, pointer) => {
    const answer = await call('POST', '/clients', { body: { ...body, ...more } });
    expect([answer.status, new Set(pointersOf(answer))]).toEqual([422, new Set([pointer])]);
  });

  it('lose their scope and their service, and keep each grant once', async () => {
    const service = await harness.build.service();
    const { body: client } = await call('POST', '/clients', { body: { ...body, service: service.id } });
    const path = `/clients/${client.client_id}`;
    const { body: changed, status } = await call('PATCH', path, {
      body: { scope: '', service: null, grant_types: ['client_credentials', 'client_credentials'] },
    });
    expect([status, changed.scope, changed.service, changed.grant_types]).toEqual([
      200,
      '',
      null,
      ['client_credentials'],
    ]);
    expect((await call('GET', path)).body).toEqual(changed);
    const refused = await credentials(client.client_id, client.client_secret);
    expect([refused.status, ((await refused.json()) as { error: string }).error]).toEqual([
      400,
      'invalid_scope',
    ]);
    const created = await call('POST', '/clients', { body: { ...body, scope: '', service: null } });
    expect([created.status, created.body.scope, created.body.service]).toEqual([201, '', null]);
  });

  it('refuse an unknown service, and a code flow that loses its redirect', async () => {
    const unknown = await call('POST', '/clients', { body: { ...body, service: 'nowhere' } });
    expect([unknown.status, unknown.body.type]).toEqual([422, problem('service-not-found')]);
    const { body: client } = await call('POST', '/clients', {
      body: { ...body, grant_types: ['authorization_code'], redirect_uris: ['https://example.com/cb'] },
    });
    const answer = await call('PATCH', `/clients/${client.client_id}`, { body: { redirect_uris: [] } });
    expect([answer.status, pointersOf(answer)]).toEqual([422, ['/redirect_uris']]);
  });
});

describe('me', () => {
  it('is the signed-in user with what is left of the limit, and nothing for a machine', async () => {
    const { organizationId, userId, service } = await harness.build.platformToken();
    await harness.build.platformToken({ organizationId, userId, service, revokedAt: new Date() });
    const { id: second } = await harness.build.organization('Zeta');
    await harness.stores.memberships.put(second, userId, 'admin', new Date());
    const answer = await call('GET', '/me', { as: await harness.build.userJwt(userId) });
    expect([answer.status, answer.body]).toMatchObject([
      200,
      {
        id: userId,
        kind: 'person',
        status: 'active',
        memberships: [
          {
            organization: { id: organizationId, name: 'Acme' },
            role: 'member',
            token_limit: 20,
            tokens_remaining: 19,
          },
          {
            organization: { id: second, name: 'Zeta' },
            role: 'admin',
            token_limit: 20,
            tokens_remaining: 20,
          },
        ],
      },
    ]);
    expect(answer.text).not.toMatch(/password|digest/);
    expect((await call('GET', '/me')).status).toBe(404);
  });
});

describe('the audit trail', () => {
  it('filters by each, with from included and to excluded', async () => {
    const actor = uuidv7();
    const [organizationId, tokenId] = [uuidv7(), uuidv7()];
    const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second));
    const base = {
      actor: { type: 'user', id: actor } as const,
      organizationId,
      tokenId: null,
      targetId: null,
      ip: '192.0.2.1',
      userAgent: 'x',
      requestId: null,
      reason: null,
    };
    await harness.stores.auditEvents.insert([
      { ...base, id: uuidv7(), at: at(1), action: 'token.created', tokenId },
      { ...base, id: uuidv7(), at: at(2), action: 'token.revoked', tokenId },
      { ...base, id: uuidv7(), at: at(3), action: 'user.updated', actor: { type: 'system', id: 'x' } },
    ]);
    expect(await actions(`organization_id=${organizationId}`)).toEqual([
      'token.created',
      'token.revoked',
      'user.updated',
    ]);
    expect(await actions(`actor_id=${actor}`)).toEqual(['token.created', 'token.revoked']);
    expect(await actions(`token_id=${tokenId}&action=token.revoked`)).toEqual(['token.revoked']);
    expect(await actions(`organization_id=${organizationId}&from=${at(2).toISOString()}`)).toEqual([
      'token.revoked',
      'user.updated',
    ]);
    expect(await actions(`organization_id=${organizationId}&to=${at(2).toISOString()}`)).toEqual([
      'token.created',
    ]);
    expect(
      await actions(
        `organization_id=${organizationId}&from=2026-01-01T01:00:02%2B01:00&to=2026-01-01T00:00:03Z`,
      ),
    ).toEqual(['token.revoked']);
    const { body } = await call('GET', `/audit-events?token_id=${tokenId}&limit=1`);
    expect(body).toEqual({
      data: [
        {
          id: expect.any(String),
          at: at(2).toISOString(),
          action: 'token.revoked',
          actor: { type: 'user', id: actor },
          organization_id: organizationId,
          token_id: tokenId,
          target_id: null,
          ip: '192.0.2.1',
          user_agent: 'x',
          reason: null,
          request_id: null,
          count: 1,
        },
      ],
      next_cursor: expect.any(String),
      total: 2,
    });
    const next = await call('GET', `/audit-events?token_id=${tokenId}&limit=1&cursor=${body.next_cursor}`);
    expect([next.body.data[0].action, next.body.next_cursor]).toEqual(['token.created', null]);
  });

  it('has the exchanges: by token, service, actor and action, with their count', async () => {
    const { id: tokenId, organizationId, service } = await harness.build.platformToken();
    const at = new Date(Date.UTC(2026, 0, 2));
    const exchanges = { organizationId, tokenId, serviceId: service.id, ip: '192.0.2.1', userAgent: 'x' };
    await harness.stores.exchangeEvents.insert([
      { ...exchanges, id: uuidv7(), at, requestId: null, count: 7 },
    ]);
    await call('DELETE', `/tokens/${tokenId}`);
    const { body } = await call('GET', `/audit-events?actor_id=${tokenId}`);
    expect(body.data).toEqual([
      {
        id: expect.any(String),
        at: at.toISOString(),
        action: 'token.exchanged',
        actor: { type: 'token', id: tokenId },
        organization_id: organizationId,
        token_id: tokenId,
        target_id: service.id,
        ip: '192.0.2.1',
        user_agent: 'x',
        reason: null,
        request_id: null,
        count: 7,
      },
    ]);
    expect(await actions(`token_id=${tokenId}`)).toEqual(['token.exchanged', 'token.revoked']);
    expect(await actions(`token_id=${tokenId}&action=token.exchanged`)).toEqual(['token.exchanged']);
    expect(await actions(`token_id=${tokenId}&actor_id=nobody`)).toEqual([]);
  });

  it.each([
    'from=yesterday',
    'to=2026-02-30T00:00:00Z',
    'from=2026-01-01',
    'action=x',
    'action=',
    'token_id=x',
    'organization_id=x',
    'actor=x',
    'limit=0',
    'cursor=x',
  ])('refuses the query %s', async (query) => {
    expect((await call('GET', `/audit-events?${query}`)).status).toBe(400);
  });

  it("shows an organization's admin all of it, a member that of their own tokens", async () => {
    const { organizationId, userId, service, id } = await harness.build.platformToken();
    const admin = await harness.build.user({ organizationId, role: 'admin' });
    const adminJwt = await harness.build.userJwt(admin.id);
    const other = await harness.build.platformToken({ organizationId, userId: admin.id, service });
    for (const token of [id, other.id]) await call('DELETE', `/tokens/${token}`);
    const tokens = async (as: string) =>
      (await call('GET', '/audit-events', { as })).body.data
        .map((event: { token_id: string }) => event.token_id)
        .sort();
    expect(await tokens(await harness.build.userJwt(userId))).toEqual([id]);
    expect(await tokens(adminJwt)).toEqual([id, other.id].sort());
  });

  it('shows who is an admin here and a member there both, and a former member nothing', async () => {
    const here = await harness.build.organization();
    const there = await harness.build.organization();
    const user = await harness.build.user({ organizationId: here.id, role: 'admin' });
    await harness.stores.memberships.put(there.id, user.id, 'member', new Date());
    const service = await harness.build.service();
    const make = async (organizationId: string, userId?: string) => {
      const { id } = await harness.build.platformToken({
        organizationId,
        service,
        ...(userId ? { userId } : {}),
      });
      await call('DELETE', `/tokens/${id}`);
      return id;
    };
    const own = await make(here.id, user.id);
    const colleagues = await make(here.id);
    const ownThere = await make(there.id, user.id);
    const foreignThere = await make(there.id);
    const elsewhere = await make((await harness.build.organization()).id);
    await call('PATCH', `/organizations/${here.id}`, { body: { name: 'New' } });
    await call('PATCH', `/organizations/${there.id}`, { body: { name: 'New' } });

    const as = await harness.build.userJwt(user.id);
    const seen = async (query = '') => {
      const { status, body } = await call('GET', `/audit-events?limit=100&${query}`, { as });
      expect([status, body.total]).toEqual([200, body.data.length]);
      return body.data.map((event: { token_id: string | null; target_id: string | null }) => {
        return event.token_id ?? event.target_id;
      });
    };
    expect((await seen()).sort()).toEqual([own, colleagues, ownThere, here.id].sort());
    expect(await seen(`organization_id=${there.id}`)).toEqual([ownThere]);
    expect(await seen(`token_id=${colleagues}`)).toEqual([colleagues]);
    for (const foreign of [foreignThere, elsewhere]) expect(await seen(`token_id=${foreign}`)).toEqual([]);
    const pages: string[] = [];
    for (let cursor = ''; ; ) {
      const { body } = await call('GET', `/audit-events?limit=1${cursor}`, { as });
      pages.push(...body.data.map(({ id }: { id: string }) => id));
      if (!body.next_cursor) break;
      cursor = `&cursor=${body.next_cursor}`;
    }
    expect(new Set(pages).size).toBe(4);

    await harness.stores.memberships.put(here.id, user.id, 'member', new Date());
    expect((await seen()).sort()).toEqual([own, ownThere].sort());
    await harness.stores.memberships.remove(here.id, user.id);
    expect(await seen()).toEqual([ownThere]);
    await harness.stores.memberships.remove(there.id, user.id);
    expect(await seen()).toEqual([]);
  });

  it('records an exchange, keeps no credential from the user agent, and no ip that is none', async () => {
    const { token, id } = await harness.build.platformToken();
    expect((await exchange(harness.url, token)).status).toBe(200);
    await expect
      .poll(() => actions(`token_id=${id}&action=token.exchanged`), { timeout: 5000 })
      .toEqual(['token.exchanged']);
    const answer = await call('DELETE', `/tokens/${id}`, {
      headers: { 'user-agent': `curl ${token}`, 'x-forwarded-for': 'garbage' },
    });
    expect(answer.status).toBe(204);
    const events = await call('GET', `/audit-events?token_id=${id}&action=token.revoked`);
    expect(events.body.data[0]).toMatchObject({ user_agent: 'curl [redacted]', ip: null });
  });
});

describe('bodies', () => {
  it.each(['', '{', 'name=x', '{"name":"x"}}', "{'name':'x'}", 'undefined'])(
    'that are no JSON are 400: %s',
    async (body) => {
      const answer = await call('POST', '/organizations', { body });
      expect([answer.status, answer.body.type, answer.body.title]).toEqual([
        400,
        'about:blank',
        'Bad Request',
      ]);
      expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    },
  );

  it('of another media type, or of none, are 400', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/xml', 'text/json']) {
      const answer = await call('POST', '/organizations', {
        body: '{"name":"x"}',
        headers: { 'content-type': type },
      });
      expect([type, answer.status]).toEqual([type, 400]);
    }
    expect((await call('POST', '/organizations')).status).toBe(400);
    const charset = { 'content-type': 'application/json; charset=utf-8' };
    expect((await call('POST', '/organizations', { body: '{"name":"x"}', headers: charset })).status).toBe(
      201,
    );
  });

  it('that are not UTF-8 are 400', async () => {
    const body = Buffer.concat([Buffer.from('{"name":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]);
    expect((await call('POST', '/organizations', { body })).status).toBe(400);
  });

  it('that are too large are 413', async () => {
    const answer = await call('POST', '/organizations', { body: { name: 'x'.repeat(70_000) } });
    expect([answer.status, answer.body.status]).toEqual([413, 413]);
  });

  it.each(['[]', 'null', '5', '"x"', '[{"name":"x"}]', '['.repeat(5000) + ']'.repeat(5000)])(
    'that are JSON but no object are 422: %.20s',
    async (body) => {
      expect((await call('POST', '/organizations', { body })).status).toBe(422);
    },
  );

  it('with NUL or a lone surrogate in any member are never 500', async () => {
    const { id: organization } = await harness.build.organization();
    const user = await harness.build.user();
    const service = await harness.build.service();
    const client = await harness.build.client(['admin']);
    const targets: [string, string, Record<string, unknown>][] = [
      ['POST', '/organizations', { name: 'x' }],
      ['PATCH', `/organizations/${organization}`, { name: 'x', status: 'active' }],
      ['POST', '/users', { email: email(), name: 'x', kind: 'person', password: 'long enough' }],
      ['PATCH', `/users/${user.id}`, { name: 'x', email: email(), password: 'long enough' }],
      ['PUT', `/organizations/${organization}/members/${user.id}`, { role: 'member' }],
      [
        'POST',
        '/services',
        { id: `z-${uuidv7()}`, name: 'x', audience: `https://${uuidv7()}`, scopes: ['a'] },
      ],
      ['PATCH', `/services/${service.id}`, { name: 'x', scopes: ['a'] }],
      [
        'POST',
        '/clients',
        {
          name: 'x',
          grant_types: ['client_credentials'],
          scope: 'admin',
          redirect_uris: ['https://x.test'],
          service: service.id,
        },
      ],
      ['PATCH', `/clients/${client.id}`, { name: 'x', scope: 'admin', redirect_uris: ['https://x.test'] }],
      [
        'POST',
        '/tokens',
        { name: 'x', service: service.id, organization_id: organization, user_id: user.id },
      ],
      ['POST', '/tokens/revoke', { user_id: user.id, reason: 'x' }],
      ['POST', '/tokens/revoke', { ids: [uuidv7()], reason: 'x' }],
    ];
    for (const [method, path, good] of targets) {
      for (const member of Object.keys(good)) {
        for (const bad of ['\0', '\ud800', '\udfff']) {
          const value = Array.isArray(good[member]) ? [`${good[member][0]}${bad}`] : `${good[member]}${bad}`;
          const answer = await call(method, path, { body: { ...good, [member]: value } });
          expect([path, member, answer.status]).toEqual([path, member, 422]);
        }
        const key = await call(method, path, { body: { ...good, [`${member}\0\ud800`]: 1 } });
        expect([path, key.status]).toEqual([path, 422]);
      }
    }
  });

  it('with NUL or broken encoding in the query are 400', async () => {
    for (const path of ['tokens', 'users', 'audit-events']) {
      const broken = ['q=%ff%ed%a0%80', 'q=%E0%A4%A', 'actor_id=%zz', '%ff=1', 'cursor=%ff%ed%a0%80'];
      for (const query of ['q=%00', 'actor_id=%00', 'cursor=%00', '%00=1', ...broken]) {
        expect([query, (await call('GET', `/${path}?${query}`)).status]).toEqual([query, 400]);
      }
    }
    expect((await call('GET', '/tokens?q=100%25%C3%A4+%F0%9F%98%80')).status).toBe(200);
  });
});

it.each(['%00', 'x%00', '%2500', 'x', '%ff', 'a%2Fb', '%F0%9F%98%80'])(
  'ids like %s in a path are 4xx, never 500',
  async (id) => {
    const user = uuidv7();
    for (const path of [
      `/organizations/${id}`,
      `/users/${id}`,
      `/services/${id}`,
      `/clients/${id}`,
      `/tokens/${id}`,
      `/organizations/${id}/members/${user}`,
      `/organizations/${user}/members/${id}`,
    ]) {
      for (const method of ['GET', 'PATCH', 'PUT', 'DELETE']) {
        const answer = await call(method, path, method === 'GET' || method === 'DELETE' ? {} : { body: {} });
        const allowed =
          id.endsWith('%00') && !id.includes('%25') ? [400] : id === '%ff' ? [400, 404, 405] : [404, 405];
        expect([method, path, allowed.includes(answer.status) ? 'refused' : answer.status]).toEqual([
          method,
          path,
          'refused',
        ]);
      }
    }
  },
);
