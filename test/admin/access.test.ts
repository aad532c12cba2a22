import { createHmac } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createClientSecret } from '../../server/domain/client-secret.ts';
import { createHarness, exchange, type Harness } from '../support/harness.ts';

interface Operation {
  method: string;
  path: string;
  access: 'machine' | 'tokens:read' | 'tokens:write' | 'any';
}

let harness: Harness;
let operations: Operation[];
const statuses: number[] = [];

beforeAll(async () => {
  harness = await createHarness();
  const document = (await (await fetch(`${harness.url}/admin/openapi.json`)).json()) as { paths: object };
  operations = Object.entries(
    document.paths as Record<string, Record<string, { description: string }>>,
  ).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { description }]) => ({
      method: method.toUpperCase(),
      path: path.replace(/\{\w+\}/g, uuidv7()),
      access: accessOf(description),
    })),
  );
});
afterAll(async () => {
  expect(statuses).not.toContain(500);
  await harness.close();
});

async function send(
  { method, path }: Pick<Operation, 'method' | 'path'>,
  authorization?: string,
  body?: unknown,
) {
  const response = await fetch(`${harness.url}${path}`, {
    method,
    headers: {
      ...(authorization === undefined ? {} : { authorization }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
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

function accessOf(description: string): Operation['access'] {
  if (description.startsWith('Machine')) return 'machine';
  if (description === 'Any caller.') return 'any';
  return /tokens:(read|write)/.exec(description)?.[0] as 'tokens:read';
}

const metadata = 'resource_metadata="http://issuer.test/.well-known/oauth-protected-resource/admin"';
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
const basic = (user: string, password: string) =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

async function expectEverywhere401(authorization: string | undefined, challenge: string) {
  for (const operation of operations) {
    const answer = await send(operation, authorization);
    expect([operation.method, operation.path, answer.status]).toEqual([
      operation.method,
      operation.path,
      401,
    ]);
    expect(answer.headers.get('www-authenticate')).toBe(challenge);
    expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.body).toMatchObject({ type: 'about:blank', title: 'Unauthorized', status: 401 });
  }
}
const required = `Bearer ${metadata}`;
const invalid = `Bearer error="invalid_token", ${metadata}`;

const machineClaims = () => harness.build.machineClaims();
/** Of a user who has signed in through a client of their own. */
async function userClaims(scope: string) {
  const { id } = await harness.build.user();
  const { sub, secret_id } = await harness.build.machineClaims(scope.split(' '), ['authorization_code']);
  return { sub: id, client_id: sub, secret_id, scope };
}

it('knows every route of the contract', () => {
  const known = operations.map(({ method, path }) => `${method} ${path.replace(/[0-9a-f-]{36}/g, '*')}`);
  for (const wanted of [
    'POST /admin/tokens',
    'GET /admin/tokens',
    'GET /admin/tokens/*',
    'DELETE /admin/tokens/*',
    'POST /admin/tokens/revoke',
    'POST /admin/organizations',
    'GET /admin/organizations',
    'GET /admin/organizations/*',
    'PATCH /admin/organizations/*',
    'POST /admin/users',
    'GET /admin/users',
    'GET /admin/users/*',
    'PATCH /admin/users/*',
    'GET /admin/organizations/*/members',
    'PUT /admin/organizations/*/members/*',
    'DELETE /admin/organizations/*/members/*',
    'POST /admin/services',
    'GET /admin/services',
    'GET /admin/services/*',
    'PATCH /admin/services/*',
    'POST /admin/clients',
    'GET /admin/clients',
    'GET /admin/clients/*',
    'PATCH /admin/clients/*',
    'POST /admin/clients/*/rotate-secret',
    'DELETE /admin/clients/*',
    'GET /admin/me',
    'GET /admin/audit-events',
  ]) {
    expect(known).toContain(wanted);
  }
  expect(operations.every(({ access }) => Boolean(access))).toBe(true);
});

describe('every route refuses with 401', () => {
  it.each([
    ['a request without a credential', undefined],
    ['Basic', basic('admin', 'secret')],
    ['Digest', 'Digest username="admin"'],
    ['a scheme that begins like ours', 'Bearers a.b.c'],
  ])('%s, without an error code (RFC 6750 §3.1)', (_, authorization) =>
    expectEverywhere401(authorization, required),
  );

  it.each([
    ['garbage', 'Bearer garbage'],
    ['an empty bearer', 'Bearer '],
    ['three random parts', 'Bearer aaa.bbb.ccc'],
    ['two credentials', 'Bearer a.b.c, Bearer d.e.f'],
  ])('%s', (_, authorization) => expectEverywhere401(authorization, invalid));

  it.each([
    ['the audience of a service', { aud: 'https://strings.example.com' }, {}],
    ['the issuer as audience', { aud: 'http://issuer.test' }, {}],
    ['no audience', { aud: undefined }, {}],
    ['another issuer', { iss: 'http://elsewhere.test' }, {}],
    ['the issuer with a slash', { iss: 'http://issuer.test/' }, {}],
    ['typ JWT', {}, { typ: 'JWT' }],
    ['no typ', {}, { typ: undefined }],
    ['an expired token', { exp: Math.floor(Date.now() / 1000) - 60 }, {}],
    ['a token that is not yet valid', { nbf: Math.floor(Date.now() / 1000) + 600 }, {}],
    ['no exp', { exp: undefined }, {}],
    ['no client_id', { client_id: undefined }, {}],
    ['an unknown kid', {}, { kid: 'unknown' }],
    ['a client that does not exist', { sub: 'nobody', client_id: 'nobody' }, {}],
    ['the claim token_id', { token_id: 'x' }, {}],
  ])('%s', async (_, claims, header) => {
    const jwt = await harness.build.jwt({ ...(await machineClaims()), ...(claims as object) }, header);
    await expectEverywhere401(`Bearer ${jwt}`, invalid);
  });

  it('alg none, and HS256 keyed with the public key', async () => {
    const now = Math.floor(Date.now() / 1000);
    const payload = encode({
      iss: 'http://issuer.test',
      aud: 'http://issuer.test/admin',
      iat: now,
      exp: now + 600,
      jti: uuidv7(),
      ...(await machineClaims()),
    });
    const [jwk] = harness.keySet.publicJwks;
    const none = `${encode({ alg: 'none', typ: 'at+jwt', kid: jwk?.kid })}.${payload}`;
    await expectEverywhere401(`Bearer ${none}.`, invalid);
    await expectEverywhere401(`Bearer ${none}.AA`, invalid);
    for (const key of [JSON.stringify(jwk), harness.keySet.jwks.body]) {
      const signed = `${encode({ alg: 'HS256', typ: 'at+jwt', kid: jwk?.kid })}.${payload}`;
      const mac = createHmac('sha256', key).update(signed).digest('base64url');
      await expectEverywhere401(`Bearer ${signed}.${mac}`, invalid);
    }
  });

  it('a signature over other claims', async () => {
    const jwt = await harness.build.jwt(await machineClaims());
    const [header, , signature] = jwt.split('.');
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      iss: 'http://issuer.test',
      aud: 'http://issuer.test/admin',
      iat: now,
      exp: now + 9999,
      jti: 'x',
    };
    await expectEverywhere401(
      `Bearer ${header}.${encode({ ...claims, ...(await machineClaims()) })}.${signature}`,
      invalid,
    );
  });

  it('a platform token, and the JWT exchanged for it, in whatever header', async () => {
    const { token } = await harness.build.platformToken();
    const answer = await exchange(harness.url, token);
    expect(answer.status).toBe(200);
    const { access_token: jwt } = (await answer.json()) as { access_token: string };
    for (const credential of [token, jwt]) {
      await expectEverywhere401(`Bearer ${credential}`, invalid);
      await expectEverywhere401(basic(credential, ''), required);
      await expectEverywhere401(basic('token', credential), required);
      await expectEverywhere401(`token ${credential}`, required);
      const response = await fetch(`${harness.url}/admin/tokens?access_token=${credential}`, {
        headers: { cookie: `access_token=${credential}`, 'x-api-key': credential },
      });
      expect(response.status).toBe(401);
    }
  });

  it('the token of a deleted client, which worked before', async () => {
    const claims = await machineClaims();
    const jwt = await harness.build.jwt(claims);
    expect((await send({ method: 'GET', path: '/admin/tokens' }, `Bearer ${jwt}`)).status).toBe(200);
    await harness.stores.clients.delete(claims.sub);
    await expectEverywhere401(`Bearer ${jwt}`, invalid);
  });

  it('the token of a client whose secret was replaced, which worked before', async () => {
    const claims = await machineClaims();
    const jwt = await harness.build.jwt(claims);
    expect((await send({ method: 'GET', path: '/admin/tokens' }, `Bearer ${jwt}`)).status).toBe(200);
    await harness.stores.clients.update(claims.sub, { secretDigest: createClientSecret().digest });
    await expectEverywhere401(`Bearer ${jwt}`, invalid);
  });

  it('the token of a client that may have none any more, which worked before', async () => {
    const claims = await machineClaims();
    const jwt = await harness.build.jwt(claims);
    expect((await send({ method: 'GET', path: '/admin/tokens' }, `Bearer ${jwt}`)).status).toBe(200);
    await harness.stores.clients.update(claims.sub, { grantTypes: [] });
    await expectEverywhere401(`Bearer ${jwt}`, invalid);
  });

  it('the token of a user who was signed out everywhere, which worked before', async () => {
    const user = await harness.build.user();
    const claims = { sub: user.id, client_id: 'dashboard', scope: 'tokens:read tokens:write' };
    const now = Math.floor(Date.now() / 1000);
    const jwt = await harness.build.jwt({ ...claims, auth_time: now });
    expect((await send({ method: 'GET', path: '/admin/tokens' }, `Bearer ${jwt}`)).status).toBe(200);
    await harness.stores.users.update(user.id, { signsOut: true });
    await expectEverywhere401(`Bearer ${jwt}`, invalid);
    // Without the claim, what counts is when it was made.
    const early = await harness.build.jwt({ ...claims, iat: now });
    await expectEverywhere401(`Bearer ${early}`, invalid);
  });

  it.each([
    ['was deleted', (id: string) => harness.stores.clients.delete(id)],
    ['may have none any more', (id: string) => harness.stores.clients.update(id, { grantTypes: [] })],
    [
      'has another secret',
      (id: string) => harness.stores.clients.update(id, { secretDigest: createClientSecret().digest }),
    ],
  ] as const)("a user's token of a client that %s, which worked before", async (_what, change) => {
    const claims = await userClaims('tokens:read');
    const jwt = await harness.build.jwt(claims);
    expect((await send({ method: 'GET', path: '/admin/me' }, `Bearer ${jwt}`)).status).toBe(200);
    await change(claims.client_id);
    await expectEverywhere401(`Bearer ${jwt}`, invalid);
  });

  it.each(['platform-tokens', 'nobody'])("a user's token of the client %s", async (client_id) => {
    const user = await harness.build.user();
    const jwt = await harness.build.jwt({ sub: user.id, client_id, scope: 'tokens:read tokens:write' });
    await expectEverywhere401(`Bearer ${jwt}`, invalid);
  });

  it.each(['', 'nobody', 'dashboard', '01890a5d-ac96-774b-bcce-b302099a8057x'])(
    'a subject that is no UUID: "%s"',
    async (sub) => {
      await expectEverywhere401(`Bearer ${await harness.build.userJwt(sub)}`, invalid);
    },
  );

  it('the token of a deactivated user, which worked before', async () => {
    const { id: organizationId } = await harness.build.organization();
    const user = await harness.build.user({ organizationId, role: 'admin' });
    const jwt = await harness.build.userJwt(user.id);
    expect((await send({ method: 'GET', path: '/admin/me' }, `Bearer ${jwt}`)).status).toBe(200);
    await harness.stores.users.update(user.id, { status: 'inactive' });
    await expectEverywhere401(`Bearer ${jwt}`, invalid);
  });
});

describe('a missing scope is 403', () => {
  async function expect403(
    chosen: Operation[],
    authorization: string,
    scope: (operation: Operation) => string,
  ) {
    expect(chosen.length).toBeGreaterThan(0);
    for (const operation of chosen) {
      const answer = await send(operation, authorization);
      expect([operation.method, operation.path, answer.status]).toEqual([
        operation.method,
        operation.path,
        403,
      ]);
      expect(answer.headers.get('www-authenticate')).toBe(
        `Bearer error="insufficient_scope", scope="${scope(operation)}"`,
      );
      expect(answer.body).toMatchObject({ type: 'about:blank', title: 'Forbidden', status: 403 });
    }
  }

  it.each(['', 'openid', 'administrator', 'tokens:read tokens:write'])(
    'for a machine with the scope "%s"',
    async (scope) => {
      const jwt = await harness.build.jwt({ ...(await machineClaims()), scope });
      await expect403(operations, `Bearer ${jwt}`, () => 'admin');
    },
  );

  it('for a machine whose client has lost the scope since', async () => {
    const claims = await machineClaims();
    await harness.stores.clients.update(claims.sub, { scopes: [] });
    await expect403(operations, `Bearer ${await harness.build.jwt(claims)}`, () => 'admin');
  });

  it("for a user on every machine administrators' route, even an organization's admin claiming admin", async () => {
    const { id: organizationId } = await harness.build.organization();
    const user = await harness.build.user({ organizationId, role: 'admin' });
    const jwt = await harness.build.userJwt(user.id, 'tokens:read tokens:write admin');
    await expect403(
      operations.filter(({ access }) => access === 'machine'),
      `Bearer ${jwt}`,
      () => 'admin',
    );
  });

  it('for a user whose client has lost the scope since', async () => {
    const claims = await userClaims('tokens:read tokens:write');
    const jwt = await harness.build.jwt(claims);
    await harness.stores.clients.update(claims.client_id, { scopes: ['tokens:read'] });
    await expect403(
      operations.filter(({ access }) => access === 'tokens:write'),
      `Bearer ${jwt}`,
      () => 'tokens:write',
    );
  });

  it('for a user without tokens:read or tokens:write', async () => {
    const { id: organizationId } = await harness.build.organization();
    const user = await harness.build.user({ organizationId });
    const none = await harness.build.userJwt(user.id, 'openid');
    await expect403(
      operations.filter(({ access }) => access !== 'any'),
      `Bearer ${none}`,
      ({ access }) => (access === 'machine' ? 'admin' : access),
    );
    const readOnly = await harness.build.userJwt(user.id, 'tokens:read');
    await expect403(
      operations.filter(({ access }) => access === 'tokens:write'),
      `Bearer ${readOnly}`,
      () => 'tokens:write',
    );
    const writeOnly = await harness.build.userJwt(user.id, 'tokens:write');
    await expect403(
      operations.filter(({ access }) => access === 'tokens:read'),
      `Bearer ${writeOnly}`,
      () => 'tokens:read',
    );
  });
});

it.each(['', 'openid', 'tokens:write', 'tokens:read'])(
  'a user with the scope "%s" reads services and themselves',
  async (scope) => {
    const service = await harness.build.service();
    const jwt = await harness.build.userJwt((await harness.build.user()).id, scope);
    for (const path of ['/admin/services', `/admin/services/${service.id}`, '/admin/me']) {
      expect([path, (await send({ method: 'GET', path }, `Bearer ${jwt}`)).status]).toEqual([path, 200]);
    }
  },
);

describe('what a caller may not see does not exist', () => {
  it.each(['member', 'admin'] as const)("for %s: another organization's token and members", async (role) => {
    const { id: organizationId } = await harness.build.organization();
    const user = await harness.build.user({ organizationId, role });
    const authorization = `Bearer ${await harness.build.userJwt(user.id)}`;
    const foreign = await harness.build.platformToken();
    for (const [method, path] of [
      ['GET', (id: string) => `/admin/tokens/${id}`],
      ['DELETE', (id: string) => `/admin/tokens/${id}`],
    ] as const) {
      const there = await send({ method, path: path(foreign.id) }, authorization);
      const nowhere = await send({ method, path: path(uuidv7()) }, authorization);
      expect([there.status, there.text]).toEqual([404, nowhere.text]);
      expect(there.body).toEqual({ type: 'about:blank', title: 'Not Found', status: 404 });
    }
    const there = await send(
      { method: 'GET', path: `/admin/organizations/${foreign.organizationId}/members` },
      authorization,
    );
    const nowhere = await send(
      { method: 'GET', path: `/admin/organizations/${uuidv7()}/members` },
      authorization,
    );
    expect([there.status, there.text]).toEqual([404, nowhere.text]);
    const list = await send(
      { method: 'GET', path: `/admin/tokens?organization_id=${foreign.organizationId}` },
      authorization,
    );
    expect(list.body).toEqual({ data: [], next_cursor: null, total: 0 });
    const revoked = await send({ method: 'POST', path: '/admin/tokens/revoke' }, authorization, {
      organization_id: foreign.organizationId,
    });
    expect([revoked.status, revoked.body]).toEqual([200, { revoked: 0, not_found: [] }]);
    expect((await exchange(harness.url, foreign.token)).status).toBe(200);
    const events = await send(
      { method: 'GET', path: `/admin/audit-events?token_id=${foreign.id}` },
      authorization,
    );
    expect(events.body).toEqual({ data: [], next_cursor: null, total: 0 });
  });

  it("refuses a member to read members with 404, and answers the organization's admin", async () => {
    const { id: organizationId } = await harness.build.organization();
    const member = await harness.build.user({ organizationId });
    const admin = await harness.build.user({ organizationId, role: 'admin' });
    const operation = { method: 'GET', path: `/admin/organizations/${organizationId}/members` };
    expect((await send(operation, `Bearer ${await harness.build.userJwt(member.id)}`)).status).toBe(404);
    const answer = await send(operation, `Bearer ${await harness.build.userJwt(admin.id)}`);
    expect([answer.status, answer.body.total]).toEqual([200, 2]);
  });
});
