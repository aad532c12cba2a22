import {
  CompactEncrypt,
  createRemoteJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  exportJWK,
  generateKeyPair,
  jwtVerify,
  SignJWT,
} from 'jose';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPlatformToken } from '../../server/domain/platform-token.ts';
import { basic, createHarness, exchange, type Harness, postForm, rawPost } from '../support/harness.ts';

const path = '/oauth/introspect';
const signed = 'application/token-introspection+jwt';
const formType = 'application/x-www-form-urlencoded';

let harness: Harness;
let client: { id: string; secret: string };
beforeAll(async () => {
  harness = await createHarness();
  client = await harness.build.client(['introspect']);
});
afterAll(async () => {
  const logs = harness.logs();
  await harness.close();
  expect(logs).toContain('"route":"/oauth/introspect"');
  expect(logs).not.toMatch(/"status":500|unexpected error|eyJ|ptk_/);
  expect(logs).not.toContain(client.secret);
});

const post = (
  form: Record<string, string> | string,
  headers: Record<string, string> = {},
  url = harness.url,
) => postForm(url, form, headers, path);
const ask = (token: string, { id, secret } = client, url = harness.url) =>
  post({ token }, basic(id, secret), url);

async function refusal(response: Response | Promise<Response>) {
  const answer = await response;
  const body = (await answer.json()) as Record<string, unknown>;
  expect(body).not.toHaveProperty('active');
  expect(body.error_description).toBeTypeOf('string');
  expect(answer.headers.get('content-type')).toBe('application/json; charset=utf-8');
  expect(answer.headers.get('cache-control')).toBe('no-store');
  if (answer.status === 401) expect(answer.headers.get('www-authenticate')).toMatch(/^Basic realm=/);
  else expect(answer.headers.has('www-authenticate')).toBe(false);
  return [answer.status, body.error];
}

async function answerOf(response: Response | Promise<Response>) {
  const answer = await response;
  expect(answer.status).toBe(200);
  expect(answer.headers.get('content-type')).toBe('application/json; charset=utf-8');
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect(answer.headers.get('pragma')).toBe('no-cache');
  expect(answer.headers.get('vary')).toBe('Accept');
  return (await answer.json()) as Record<string, unknown>;
}

async function exchanged(options: Parameters<Harness['build']['platformToken']>[0] = {}) {
  const made = await harness.build.platformToken(options);
  const { access_token: jwt } = (await (await exchange(harness.url, made.token)).json()) as {
    access_token: string;
  };
  return { ...made, jwt };
}

describe('a caller', () => {
  const bad = async (): Promise<[string, Record<string, string>, Record<string, string>][]> => {
    const { id, secret } = client;
    const { jwt, token } = await exchanged();
    const raw = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString('base64')}` });
    return [
      ['nothing', {}, {}],
      ['a name alone', { client_id: id }, {}],
      ['a secret alone', { client_secret: secret }, {}],
      ['a wrong secret', {}, basic(id, `${secret}x`)],
      ['a wrong secret in the body', { client_id: id, client_secret: 'wrong' }, {}],
      ['another name', {}, basic('nobody', secret)],
      ['an empty secret', {}, basic(id, '')],
      ['the name alone in Basic', {}, raw(id)],
      ['broken percent-encoding', {}, raw(`${id}:%zz`)],
      ['control characters', {}, raw(`${id}:%00`)],
      ['no base64', {}, { authorization: 'Basic !!!' }],
      ['an empty Basic', {}, { authorization: 'Basic' }],
      ['the token as Bearer', {}, { authorization: `Bearer ${jwt}` }],
      ['a platform token as Bearer', {}, { authorization: `Bearer ${token}` }],
      ['a machine’s access token', {}, { authorization: `Bearer ${await harness.build.machineJwt()}` }],
      ['another scheme', {}, { authorization: `Digest ${secret}` }],
      ['an assertion', { client_assertion: 'x', client_assertion_type: 'y', client_id: id }, {}],
      ['an assertion beside good credentials', { client_assertion: 'x' }, basic(id, secret)],
      ['a built-in public client', { client_id: 'platform-tokens' }, {}],
      ['the dashboard', { client_id: 'dashboard', client_secret: 'x' }, {}],
    ];
  };

  it('without good credentials of its own is 401 invalid_client', async () => {
    const { jwt } = await exchanged();
    for (const [what, form, headers] of await bad()) {
      expect([what, await refusal(post({ token: jwt, ...form }, headers))]).toEqual([
        what,
        [401, 'invalid_client'],
      ]);
    }
  });

  it('with two ways of authentication at once is 400', async () => {
    const { jwt: token } = await exchanged();
    const { id, secret } = client;
    for (const form of [
      { token, client_id: id, client_secret: secret },
      { token, client_secret: secret },
      { token, client_id: 'another' },
    ]) {
      expect(await refusal(post(form, basic(id, secret)))).toEqual([400, 'invalid_request']);
    }
  });

  it('with two Authorization headers is 400 invalid_request, whichever of them is good', async () => {
    const { jwt } = await exchanged();
    const good = basic(client.id, client.secret).authorization;
    for (const authorization of [
      [good, good],
      [good, `Bearer ${jwt}`],
      ['Basic eDp4', good],
    ]) {
      const headers = { 'content-type': formType, authorization };
      const { status, body } = await rawPost(harness.url + path, `token=${jwt}`, headers);
      expect([status, body.error]).toEqual([400, 'invalid_request']);
    }
  });

  it.each([[[]], [['admin']], [['tokens:read', 'tokens:write']]])(
    'with the scopes %j is 403 insufficient_scope, whatever it asks',
    async (scopes) => {
      const { jwt } = await exchanged();
      const other = await harness.build.client(scopes);
      for (const token of [jwt, 'garbage'])
        expect(await refusal(ask(token, other))).toEqual([403, 'insufficient_scope']);
    },
  );

  it('loses introspection with the scope, the client or the secret, at the next request', async () => {
    const { jwt } = await exchanged();
    const other = await harness.build.client(['introspect']);
    expect(await answerOf(ask(jwt, other))).toMatchObject({ active: true });
    await harness.stores.clients.update(other.id, { scopes: ['admin'] });
    expect(await refusal(ask(jwt, other))).toEqual([403, 'insufficient_scope']);
    await harness.stores.clients.update(other.id, {
      scopes: ['introspect'],
      secretDigest: Buffer.alloc(32),
    });
    expect(await refusal(ask(jwt, other))).toEqual([401, 'invalid_client']);
    await harness.stores.clients.delete(other.id);
    expect(await refusal(ask(jwt, other))).toEqual([401, 'invalid_client']);
  });

  it('is heard by Basic in any case and spacing, form-encoded, and by the body', async () => {
    const { jwt: token } = await exchanged();
    const { id, secret } = client;
    const encoded = basic(id, secret).authorization.slice(6);
    for (const [form, headers] of [
      [{ token }, { authorization: `basic   ${encoded}` }],
      [{ token, client_id: id }, basic(id, secret)],
      [{ token, client_id: id, client_secret: secret }, {}],
    ] as const) {
      expect(await answerOf(post(form, headers as never))).toMatchObject({ active: true });
    }
  });
});

describe('a request', () => {
  it.each([
    ['without a token', 'x=y'],
    ['with an empty token', 'token='],
    ['with two tokens', 'token=a&token=b'],
    ['with two hints', 'token=a&token_type_hint=x&token_type_hint=y'],
    ['with a NUL', 'token=a%00'],
    ['with broken percent-encoding', 'token=%zz'],
    ['with too many parameters', `token=a${'&x=y'.repeat(100)}`],
  ])('%s is 400 invalid_request', async (_what, form) => {
    expect(await refusal(post(form, basic(client.id, client.secret)))).toEqual([400, 'invalid_request']);
  });

  it('of another media type is 400, and of another size 413', async () => {
    const headers = basic(client.id, client.secret);
    for (const type of ['application/json', 'text/plain', 'multipart/form-data; boundary=x']) {
      expect(await refusal(post('token=a', { ...headers, 'content-type': type }))).toEqual([
        400,
        'invalid_request',
      ]);
    }
    expect(await refusal(post(`token=${'a'.repeat(17_000)}`, headers))).toEqual([413, 'invalid_request']);
  });

  it.each(['GET', 'PUT', 'DELETE', 'OPTIONS'])('by %s is 405 with Allow', async (method) => {
    const response = await fetch(`${harness.url}${path}?token=a`, {
      method,
      headers: basic(client.id, client.secret),
    });
    expect(response.headers.get('allow')).toBe('POST');
    expect(await refusal(response)).toEqual([405, 'invalid_request']);
  });

  it('takes the token from the body only', async () => {
    const { jwt } = await exchanged();
    const response = postForm(harness.url, 'x=y', basic(client.id, client.secret), `${path}?token=${jwt}`);
    expect(await refusal(response)).toEqual([400, 'invalid_request']);
  });
});

describe('inactive, and nothing more, is', () => {
  it('everything that is no access token of this server', async () => {
    const { token, jwt, userId } = await exchanged();
    const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
    const claims = decodeJwt(jwt);
    const own = harness.keySet.publicJwks[0];
    const foreign = (header: object) =>
      new SignJWT(claims)
        .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', ...header } as never)
        .sign(privateKey);
    const [header = '', payload = '', signature = ''] = jwt.split('.');
    const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const secretly = await new CompactEncrypt(Buffer.from(jwt))
      .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', typ: 'at+jwt' })
      .encrypt(Buffer.alloc(32, 1));
    const none: Record<string, string> = {
      'a platform token': token,
      'an unknown platform token': createPlatformToken('ptk').token,
      garbage: 'hello',
      'other letters': '\u{1F511} ü',
      dots: '..',
      'many dots': '.'.repeat(500),
      'a foreign key': await foreign({ kid: 'unknown' }),
      'a foreign key under our kid': await foreign({ kid: own?.kid }),
      'a foreign key in the header': await foreign({ jwk: await exportJWK(publicKey) }),
      'another algorithm': `${part({ alg: 'HS256', typ: 'at+jwt', kid: own?.kid })}.${payload}.${signature}`,
      'no algorithm': `${part({ alg: 'none', typ: 'at+jwt' })}.${payload}.`,
      'another payload': `${header}.${part({ ...claims, scope: 'admin' })}.${signature}`,
      'no signature': `${header}.${payload}.`,
      'a JWE': secretly,
      'five parts': `${jwt}.a.b`,
      'white space': `${jwt} `,
      'another typ': await harness.build.jwt(claims as never, { typ: 'JWT' }),
      'no typ': await harness.build.jwt(claims as never, { typ: undefined }),
      'another issuer': await harness.build.jwt({ ...claims, iss: 'http://other.test' } as never),
      'an expired one': await harness.build.jwt({ ...claims, exp: 1_700_000_000 } as never),
      'one without expiry': await harness.build.jwt({ ...claims, exp: undefined } as never),
      'one of no token': await harness.build.jwt({ ...claims, token_id: uuidv7() } as never),
      'one of an odd token': await harness.build.jwt({ ...claims, token_id: "x' OR 1" } as never),
      'one for another audience': await harness.build.jwt({ ...claims, aud: 'https://x.test' } as never),
      'one for two audiences': await harness.build.jwt({
        ...claims,
        aud: [String(claims.aud), `${harness.issuer}/admin`],
      } as never),
      'a product’s without token_id': await harness.build.jwt({
        ...claims,
        token_id: undefined,
      } as never),
      'a platform token’s for the admin API': await harness.build.jwt({
        ...claims,
        aud: `${harness.issuer}/admin`,
      } as never),
      'of a client that is no more': await harness.build.jwt({ sub: userId, client_id: 'gone' }),
      'of a user that is none': await harness.build.jwt({ sub: 'x', client_id: 'dashboard' }),
      'of a grant that is none': await harness.build.jwt({
        sub: userId,
        client_id: 'dashboard',
        grant_id: 'x',
      } as never),
    };
    for (const [what, value] of Object.entries(none))
      expect([what, await answerOf(ask(value))]).toEqual([what, { active: false }]);
  });

  it.each(['token_revoked', 'token_expired', 'user', 'organization', 'service', 'membership'] as const)(
    'the access token whose platform token has ended by %s, at the next request on any instance',
    async (what) => {
      const { jwt, id, userId, organizationId, service } = await exchanged();
      const { knex } = harness.database;
      const other = await harness.another();
      try {
        expect(await answerOf(ask(jwt, client, other.url))).toMatchObject({ active: true });
        const off = { status: 'inactive' };
        const now = new Date();
        const end = {
          token_revoked: () =>
            knex('platform_tokens').where({ id }).update({ revoked_at: now, revoked_by: 'x' }),
          token_expired: () =>
            knex('platform_tokens')
              .where({ id })
              .update({ created_at: new Date(0), expires_at: now }),
          user: () => knex('users').where({ id: userId }).update(off),
          organization: () => knex('organizations').where({ id: organizationId }).update(off),
          service: () => knex('services').where({ id: service.id }).update(off),
          membership: () =>
            knex('memberships').where({ organization_id: organizationId, user_id: userId }).delete(),
        }[what];
        await end();
        for (const url of [harness.url, other.url])
          expect(await answerOf(ask(jwt, client, url))).toEqual({ active: false });
      } finally {
        await other.close();
      }
    },
  );

  it('what is meant for another service than the caller’s', async () => {
    const service = await harness.build.service();
    const bound = await harness.build.client(['introspect'], [], [], service.id);
    const mine = await exchanged({ service });
    const foreign = await exchanged();
    const { id: userId } = await harness.build.user();
    expect(await answerOf(ask(mine.jwt, bound))).toMatchObject({ active: true, aud: service.audience });
    for (const token of [foreign.jwt, await harness.build.userJwt(userId), await harness.build.machineJwt()])
      expect(await answerOf(ask(token, bound))).toEqual({ active: false });
  });
});

describe('active is', () => {
  it('a platform token’s access token, with its claims and no other, whatever the hint', async () => {
    const { jwt, id, userId, organizationId, service } = await exchanged();
    const { exp, iat, jti } = decodeJwt(jwt);
    for (const token_type_hint of ['access_token', 'refresh_token', 'nonsense']) {
      const answer = await answerOf(post({ token: jwt, token_type_hint }, basic(client.id, client.secret)));
      expect(answer).toEqual({
        active: true,
        scope: 'read write',
        client_id: 'platform-tokens',
        sub: userId,
        aud: service.audience,
        iss: harness.issuer,
        exp,
        iat,
        jti,
        token_type: 'Bearer',
        org_id: organizationId,
        token_id: id,
      });
    }
  });

  it('a signed-in user’s access token, until the user is deactivated', async () => {
    const { id } = await harness.build.user();
    const jwt = await harness.build.userJwt(id);
    const answer = await answerOf(ask(jwt));
    expect(answer).toMatchObject({ active: true, sub: id, client_id: 'dashboard' });
    expect(answer).not.toHaveProperty('org_id');
    await harness.database.knex('users').where({ id }).update({ status: 'inactive' });
    expect(await answerOf(ask(jwt))).toEqual({ active: false });
  });

  it('a machine administrator’s access token, with what its client has now, until that is gone', async () => {
    const claims = await harness.build.machineClaims(['admin', 'tokens:read']);
    const { sub: id } = claims;
    const jwt = await harness.build.jwt(claims);
    expect(await answerOf(ask(jwt))).toMatchObject({ active: true, sub: id, scope: 'admin tokens:read' });
    await harness.stores.clients.update(id, { scopes: ['tokens:read'] });
    expect(await answerOf(ask(jwt))).toMatchObject({ active: true, scope: 'tokens:read' });
    await harness.stores.clients.update(id, { scopes: [] });
    expect(await answerOf(ask(jwt))).toEqual({ active: false });
    await harness.stores.clients.delete(id);
    expect(await answerOf(ask(jwt))).toEqual({ active: false });
  });
});

describe('the signed answer', () => {
  const signedAnswer = async (token: string, accept = signed) => {
    const response = await post({ token }, { ...basic(client.id, client.secret), accept });
    expect(response.status).toBe(200);
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(response.headers.get('vary')).toBe('Accept');
    return response;
  };

  it('is a JWT that says the same to this client alone', async () => {
    const { jwt } = await exchanged();
    const keys = createRemoteJWKSet(new URL(`${harness.url}/oauth/jwks`));
    for (const [token, active] of [
      [jwt, true],
      ['garbage', false],
    ] as const) {
      const response = await signedAnswer(token);
      expect(response.headers.get('content-type')).toBe(signed);
      const { payload, protectedHeader } = await jwtVerify(await response.text(), keys, {
        typ: 'token-introspection+jwt',
        issuer: harness.issuer,
        audience: client.id,
      });
      expect(protectedHeader.kid).toBe(harness.keySet.publicJwks[0]?.kid);
      expect(Object.keys(payload).sort()).toEqual(['aud', 'iat', 'iss', 'token_introspection']);
      expect(payload.token_introspection).toEqual(active ? await answerOf(ask(jwt)) : { active: false });
    }
  });

  it('is no access token, here or at the admin API', async () => {
    const { jwt } = await exchanged();
    const text = await (await signedAnswer(jwt)).text();
    expect(await answerOf(ask(text))).toEqual({ active: false });
    const response = await fetch(`${harness.url}/admin/me`, { headers: { authorization: `Bearer ${text}` } });
    expect(response.status).toBe(401);
    await response.body?.cancel();
  });

  it.each([
    ['*/*', false],
    ['application/json', false],
    [`${signed};q=0.5, application/json`, false],
    [`application/json;q=0.5, ${signed}`, true],
    ['text/html', false],
  ])('is given for Accept: %s: %s', async (accept, expected) => {
    const response = await signedAnswer('x', accept);
    expect(response.headers.get('content-type')?.startsWith(signed)).toBe(expected);
    await response.body?.cancel();
  });
});

it('is in the metadata', async () => {
  const { issuer } = harness;
  const response = await fetch(`${harness.url}/.well-known/oauth-authorization-server`);
  expect(await response.json()).toMatchObject({
    introspection_endpoint: `${issuer}/oauth/introspect`,
    introspection_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
    introspection_signing_alg_values_supported: ['ES256'],
  });
});

it('goes by the keys of the moment: an emergency rotation ends what the old ones signed', async () => {
  const { token, jwt } = await exchanged();
  expect(await answerOf(ask(jwt))).toMatchObject({ active: true });
  const { kid } = await harness.keyRing.rotate({ emergency: true, record: async () => {} });
  expect(await answerOf(ask(jwt))).toEqual({ active: false });
  const fresh = (await (await exchange(harness.url, token)).json()) as { access_token: string };
  const response = await post(
    { token: fresh.access_token },
    { ...basic(client.id, client.secret), accept: signed },
  );
  const text = await response.text();
  expect(decodeProtectedHeader(text).kid).toBe(kid);
  expect(decodeJwt(text).token_introspection).toMatchObject({ active: true });
});
