import { createPublicKey } from 'node:crypto';
import { JwtVerifier } from 'aws-jwt-verify';
import { createVerifier } from 'fast-jwt';
import { calculateJwkThumbprint, createLocalJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPlatformToken } from '../../server/domain/platform-token.ts';
import { createHarness, exchange, exchangeGrant, type Harness, postForm } from '../support/harness.ts';

const type = (name: string) => `urn:ietf:params:oauth:token-type:${name}`;
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(async () => {
  const logs = harness.logs();
  await harness.close();
  expect(logs).toContain('"status":200');
  expect(logs).not.toMatch(/"status":500|unexpected error/);
});

async function exchanged(token: string, more: Record<string, string> = {}) {
  const response = await exchange(harness.url, token, more);
  const body = await response.json();
  expect(body).toHaveProperty('access_token');
  expect(response.status).toBe(200);
  return body as { access_token: string; scope: string; expires_in: number };
}

async function refusal(response: Response | Promise<Response>) {
  const answer = await response;
  const body = (await answer.json()) as Record<string, unknown>;
  expect(Object.keys(body).sort()).toEqual(['error', 'error_description']);
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect(answer.headers.get('content-type')).toBe('application/json; charset=utf-8');
  return [answer.status, body.error];
}

describe('the answer to an exchange', () => {
  it('has the members and headers of the contract, and no refresh token', async () => {
    const { token, service } = await harness.build.platformToken();
    const response = await exchange(harness.url, token);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      access_token: expect.stringMatching(/^eyJ[\w-]+\.[\w-]+\.[\w-]+$/),
      issued_token_type: type('access_token'),
      token_type: 'Bearer',
      expires_in: 14_400,
      scope: service.scopes.join(' '),
    });
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(response.headers.get('pragma')).toBe('no-cache');
    expect(response.headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    expect(response.headers.get('set-cookie')).toBeNull();
  });

  it('is a JWT with the claims of RFC 9068 and nothing personal', async () => {
    const subject = await harness.build.platformToken();
    const before = Math.floor(Date.now() / 1000);
    const { access_token: jwt } = await exchanged(subject.token);
    const jwks = (await (await fetch(`${harness.url}/oauth/jwks`)).json()) as { keys: never[] };
    expect(decodeProtectedHeader(jwt)).toEqual({
      typ: 'at+jwt',
      alg: 'ES256',
      kid: await calculateJwkThumbprint(jwks.keys[0] as never),
    });
    const { status: _status, ...claims } = decodeJwt(jwt);
    expect(claims).toEqual({
      iss: 'http://issuer.test',
      sub: subject.userId,
      aud: subject.service.audience,
      client_id: 'platform-tokens',
      iat: expect.any(Number),
      exp: expect.any(Number),
      jti: expect.any(String),
      scope: 'read write',
      org_id: subject.organizationId,
      token_id: subject.id,
    });
    expect(claims.sub).toMatch(uuid);
    expect(claims.iat).toBeGreaterThanOrEqual(before);
    expect(claims.iat).toBeLessThanOrEqual(Date.now() / 1000);
    expect(Number(claims.exp) - Number(claims.iat)).toBe(14_400);
    expect(String(claims.jti).length).toBeGreaterThanOrEqual(16);
  });

  it('stays under 1 KiB with 20 scopes of 8 characters', async () => {
    const scopes = Array.from({ length: 20 }, (_, index) => `scope:${String(index).padStart(2, '0')}`);
    const service = await harness.build.service(undefined, scopes);
    const { token } = await harness.build.platformToken({ service });
    const { access_token: jwt, scope } = await exchanged(token);
    expect(scope).toBe(scopes.join(' '));
    expect(Buffer.byteLength(jwt)).toBeLessThan(1024);
  });
});

describe.each(['ES256', 'RS256', 'PS256', 'EdDSA'] as const)('an access token signed with %s', (alg) => {
  let other: Harness;
  beforeAll(async () => {
    other = await createHarness({ env: { SIGNING_ALG: alg } });
  });
  afterAll(() => other.close());

  it('is accepted by jose, fast-jwt and aws-jwt-verify, and by none after a change', async () => {
    const { token, service, userId } = await other.build.platformToken();
    const response = await exchange(other.url, token);
    const { access_token: jwt } = (await response.json()) as { access_token: string };
    const jwks = (await (await fetch(`${other.url}/oauth/jwks`)).json()) as { keys: never[] };
    const [header, payload, signature = ''] = jwt.split('.');
    const changed = [header, payload, (signature[0] === 'A' ? 'B' : 'A') + signature.slice(1)].join('.');
    const expected = { issuer: other.issuer, audience: service.audience };

    const jose = (text: string) =>
      jwtVerify(text, createLocalJWKSet(jwks), { ...expected, typ: 'at+jwt', algorithms: [alg] });
    expect((await jose(jwt)).payload.sub).toBe(userId);
    await expect(jose(changed)).rejects.toThrow('signature');

    const key = createPublicKey({ key: jwks.keys[0] as never, format: 'jwk' }).export({
      type: 'spki',
      format: 'pem',
    });
    const fast = createVerifier({
      key,
      algorithms: [alg],
      allowedIss: expected.issuer,
      allowedAud: expected.audience,
    } as never);
    expect(fast(jwt)).toMatchObject({ sub: userId });
    expect(() => fast(changed)).toThrow('signature');

    // It knows no PSS.
    if (alg === 'PS256') return;
    const aws = JwtVerifier.create({ ...expected, jwksUri: `${expected.issuer}/oauth/jwks` });
    aws.cacheJwks(jwks);
    expect(await aws.verify(jwt)).toMatchObject({ sub: userId });
    await expect(aws.verify(changed)).rejects.toThrow('signature');
  });
});

describe('subject_token and the token types', () => {
  it('refuses a missing or empty subject token', async () => {
    expect(await refusal(postForm(harness.url, { grant_type: exchangeGrant }))).toEqual([
      400,
      'invalid_request',
    ]);
    expect(await refusal(exchange(harness.url, ''))).toEqual([400, 'invalid_request']);
  });

  it.each(['urn:platform:params:oauth:token-type:api_token', 'urn:phrase:params:oauth:token-type:api_token'])(
    'accepts the subject token type %s',
    async (subject_token_type) => {
      const { token } = await harness.build.platformToken();
      await exchanged(token, { subject_token_type });
    },
  );

  it.each([type('access_token'), type('jwt'), 'api_token', 'urn:x', `${type('access_token')} `])(
    'refuses the subject token type %j',
    async (subject_token_type) => {
      const { token } = await harness.build.platformToken();
      expect(await refusal(exchange(harness.url, token, { subject_token_type }))).toEqual([
        400,
        'invalid_request',
      ]);
    },
  );

  it.each([type('access_token'), type('jwt')])(
    'issues an access token for %s',
    async (requested_token_type) => {
      const { token } = await harness.build.platformToken();
      expect(await exchanged(token, { requested_token_type })).toMatchObject({
        issued_token_type: type('access_token'),
        token_type: 'Bearer',
      });
    },
  );

  it.each([type('refresh_token'), type('id_token'), type('saml2'), 'jwt'])(
    'refuses to issue %s',
    async (requested_token_type) => {
      const { token } = await harness.build.platformToken();
      expect(await refusal(exchange(harness.url, token, { requested_token_type }))).toEqual([
        400,
        'invalid_request',
      ]);
    },
  );

  it.each([
    { actor_token: 'x' },
    { actor_token_type: type('jwt') },
    { actor_token: 'x', actor_token_type: 'y' },
  ])('refuses delegation: %j', async (actor) => {
    const { token } = await harness.build.platformToken();
    expect(await refusal(exchange(harness.url, token, actor as never))).toEqual([400, 'invalid_request']);
  });
});

describe('scope', () => {
  it.each([
    ['read', 'read'],
    ['write read', 'read write'],
    ['read read', 'read'],
    ['', 'read write'],
  ])('of %j grants exactly %j, in the answer and in the JWT', async (scope, expected) => {
    const { token } = await harness.build.platformToken();
    const body = await exchanged(token, { scope });
    expect([body.scope, decodeJwt(body.access_token).scope]).toEqual([expected, expected]);
  });

  it.each(['admin', 'read admin', 'openid', 'read offline_access', 'READ', ' ', 'read\twrite', '"'])(
    'of %j is refused',
    async (scope) => {
      const { token } = await harness.build.platformToken();
      expect(await refusal(exchange(harness.url, token, { scope }))).toEqual([400, 'invalid_scope']);
    },
  );

  it('stays what it was when the token was made, whatever the service offers later', async () => {
    const { token, service } = await harness.build.platformToken();
    await harness.database
      .knex('services')
      .where({ id: service.id })
      .update({ scopes: ['read', 'more'] });
    expect((await exchanged(token)).scope).toBe('read write');
    expect(await refusal(exchange(harness.url, token, { scope: 'more' }))).toEqual([400, 'invalid_scope']);
  });
});

describe('resource and audience', () => {
  it('accept the own service, by audience and by slug', async () => {
    const { token, service } = await harness.build.platformToken();
    const targets = [
      { resource: service.audience },
      { audience: service.audience },
      { audience: service.id },
      { audience: service.id, resource: service.audience },
    ];
    for (const target of targets) {
      expect(decodeJwt((await exchanged(token, target as never)).access_token).aud).toBe(service.audience);
    }
  });

  it('refuse everything else', async () => {
    const { token, service } = await harness.build.platformToken();
    const other = await harness.build.service();
    const targets = [
      { resource: other.audience },
      { audience: other.id },
      { audience: other.audience },
      { resource: service.id },
      { resource: `${service.audience}/` },
      { resource: 'no uri' },
      { resource: `${harness.issuer}/admin` },
      { audience: `${harness.issuer}/admin` },
      { audience: service.id, resource: other.audience },
      { audience: other.id, resource: service.audience },
    ];
    for (const target of targets) {
      expect([target, await refusal(exchange(harness.url, token, target as never))]).toEqual([
        target,
        [400, 'invalid_target'],
      ]);
    }
  });

  it.each(['resource', 'audience'])('refuse several values of %s', async (name) => {
    const { token, service } = await harness.build.platformToken();
    const form = new URLSearchParams({ grant_type: exchangeGrant, subject_token: token });
    form.append(name, service.audience);
    form.append(name, service.audience);
    expect(await refusal(postForm(harness.url, form.toString()))).toEqual([400, 'invalid_target']);
  });
});

describe('expiry', () => {
  it.each([
    ['two hours', 7200],
    ['ten seconds', 10],
  ])('is clipped to a platform token that ends in %s', async (_name, seconds) => {
    const { token } = await harness.build.platformToken({ expiresAt: new Date(Date.now() + seconds * 1000) });
    const { expires_in, access_token } = await exchanged(token);
    expect(expires_in).toBeLessThanOrEqual(seconds);
    expect(expires_in).toBeGreaterThanOrEqual(seconds - 6);
    const { iat, exp } = decodeJwt(access_token);
    expect(Number(exp) - Number(iat)).toBe(expires_in);
  });

  it('never outlives the platform token', async () => {
    const expiresAt = new Date(Date.now() + 3_600_500);
    const { token } = await harness.build.platformToken({ expiresAt });
    const { access_token } = await exchanged(token);
    expect(Number(decodeJwt(access_token).exp) * 1000).toBeLessThanOrEqual(expiresAt.getTime());
  });
});

describe('a subject token that is no good', () => {
  const bad: Record<string, () => Promise<string> | string> = {
    'an unknown one': () => createPlatformToken('ptk').token,
    'a malformed one': () => 'hello',
    'one with a bad checksum': async () => {
      const { token } = await harness.build.platformToken();
      return token.slice(0, -1) + (token.endsWith('0') ? '1' : '0');
    },
    'one in other case': async () => (await harness.build.platformToken()).token.toUpperCase(),
    'one with a space behind': async () => `${(await harness.build.platformToken()).token} `,
    'an expired one': async () => {
      const createdAt = new Date(Date.now() - 730 * 86_400_000 - 1000);
      return (await harness.build.platformToken({ createdAt })).token;
    },
    'a revoked one': async () => (await harness.build.platformToken({ revokedAt: new Date() })).token,
    'one of an inactive user': async () => {
      const { token, userId } = await harness.build.platformToken();
      await harness.database.knex('users').where({ id: userId }).update({ status: 'inactive' });
      return token;
    },
    'one of an inactive organization': async () => {
      const { token, organizationId } = await harness.build.platformToken();
      await harness.database
        .knex('organizations')
        .where({ id: organizationId })
        .update({ status: 'inactive' });
      return token;
    },
    'one of an inactive service': async () => {
      const { token, service } = await harness.build.platformToken();
      await harness.database.knex('services').where({ id: service.id }).update({ status: 'inactive' });
      return token;
    },
    'one whose membership was removed': async () => {
      const { token, organizationId, userId } = await harness.build.platformToken();
      await harness.database
        .knex('memberships')
        .where({ organization_id: organizationId, user_id: userId })
        .delete();
      return token;
    },
    'an access token of ours': async () => {
      const { token } = await harness.build.platformToken();
      return (await exchanged(token)).access_token;
    },
    "a machine administrator's JWT": () => harness.build.machineJwt(),
    'a very long one': () => 'x'.repeat(10_000),
    'one in other letters': () => 'ptk_ключ',
  };

  async function whole(response: Response) {
    const headers = Object.fromEntries(response.headers);
    delete headers.date;
    delete headers['x-request-id'];
    return { status: response.status, headers, body: await response.text() };
  }

  it.each(Object.keys(bad))('gets one and the same answer: %s', async (name) => {
    const reference = await whole(await exchange(harness.url, createPlatformToken('ptk').token));
    expect(reference).toMatchObject({
      status: 400,
      headers: { 'cache-control': 'no-store', pragma: 'no-cache' },
    });
    expect(JSON.parse(reference.body)).toMatchObject({ error: 'invalid_request' });
    const token = await bad[name]?.();
    expect(token).toBeTruthy();
    expect(await whole(await exchange(harness.url, token ?? ''))).toEqual(reference);
    // Nor does it matter what else was asked.
    expect(await whole(await exchange(harness.url, token ?? '', { scope: 'x', audience: 'y' }))).toEqual(
      reference,
    );
  });

  it('is good again when the organization is', async () => {
    const { token, organizationId } = await harness.build.platformToken();
    const set = (status: string) =>
      harness.database.knex('organizations').where({ id: organizationId }).update({ status });
    await set('inactive');
    expect(await refusal(exchange(harness.url, token))).toEqual([400, 'invalid_request']);
    await set('active');
    await exchanged(token);
  });
});

describe('an issuer with a path', () => {
  let tenant: Harness;
  beforeAll(async () => {
    tenant = await createHarness({ env: { ISSUER: 'http://issuer.test/idm' } });
  });
  afterAll(() => tenant.close());

  it("answers Phrase's request, which has a grant type, a subject token and the same bearer", async () => {
    const { token } = await tenant.build.platformToken();
    expect(new URL(tenant.url).pathname).toBe('/idm');
    for (const headers of [{}, { authorization: `Bearer ${token}` }]) {
      const response = await exchange(tenant.url, token, {}, headers as never);
      expect(response.status).toBe(200);
      const { access_token } = (await response.json()) as { access_token: string };
      expect(decodeJwt(access_token).iss).toBe('http://issuer.test/idm');
    }
  });

  it('answers under that path only', async () => {
    const { token } = await tenant.build.platformToken();
    const response = await exchange(new URL(tenant.url).origin, token);
    expect(response.status).toBe(404);
    await response.body?.cancel();
  });
});

describe('many and several', () => {
  it('1,000 concurrent exchanges of one token all succeed, each with its own jti', {
    timeout: 60_000,
  }, async () => {
    const { token } = await harness.build.platformToken();
    const answers = await Promise.all(
      Array.from({ length: 1_000 }, async () => {
        const response = await exchange(harness.url, token);
        return { status: response.status, body: (await response.json()) as { access_token: string } };
      }),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(new Set(answers.map(({ body }) => decodeJwt(body.access_token).jti)).size).toBe(1_000);
  });

  it('a revocation that was answered is honoured by the next exchange on every instance', async () => {
    const second = await harness.another();
    try {
      const authorization = `Bearer ${await harness.build.machineJwt()}`;
      for (let round = 0; round < 5; round += 1) {
        const { token, id } = await harness.build.platformToken();
        for (const url of [harness.url, second.url]) expect((await exchange(url, token)).status).toBe(200);
        const revoked = await fetch(`${harness.url}/admin/tokens/${id}`, {
          method: 'DELETE',
          headers: { authorization },
        });
        expect(revoked.status).toBe(204);
        for (const url of [second.url, harness.url]) {
          expect(await refusal(exchange(url, token))).toEqual([400, 'invalid_request']);
        }
      }
    } finally {
      await second.close();
    }
  });

  it('instances share one key set', async () => {
    const second = await harness.another();
    try {
      const [one, other] = await Promise.all(
        [harness.url, second.url].map(async (url) => (await fetch(`${url}/oauth/jwks`)).text()),
      );
      expect(other).toBe(one);
    } finally {
      await second.close();
    }
  });
});

describe('what an exchange leaves behind', () => {
  it('is the last use of the token and an audit event, within a second or so', async () => {
    const { token, id, organizationId } = await harness.build.platformToken();
    const before = Date.now();
    const agent = `test-agent ${token} Bearer abcdef`;
    await (await exchange(harness.url, token, {}, { 'user-agent': agent })).body?.cancel();
    const read = async () => ({
      row: await harness.database
        .knex('platform_token_uses')
        .where({ token_id: id })
        .first(harness.database.knex.raw('last_used_at, host(last_used_ip) AS ip')),
      events: await harness.database.knex('audit_trail').where({ token_id: id }).select('*'),
    });
    await expect.poll(async () => (await read()).events.length, { timeout: 3_000, interval: 50 }).toBe(1);
    const { row, events } = (await read()) as never as {
      row: { last_used_at: Date; ip: string };
      events: Record<string, unknown>[];
    };
    expect(row.ip).toBe('127.0.0.1');
    expect(row.last_used_at.getTime()).toBeGreaterThanOrEqual(before - 1);
    expect(row.last_used_at.getTime()).toBeLessThanOrEqual(Date.now());
    expect(events[0]).toMatchObject({ action: 'token.exchanged', organization_id: organizationId });
    expect(JSON.stringify(events)).not.toContain(token.slice(4, 20));
    expect(JSON.stringify(events)).not.toContain('abcdef');
  });

  it('is nothing where it was refused', async () => {
    const { token, id } = await harness.build.platformToken({ revokedAt: new Date() });
    expect(await refusal(exchange(harness.url, token))).toEqual([400, 'invalid_request']);
    await new Promise((resolve) => setTimeout(resolve, 800));
    const events = await harness.database
      .knex('audit_trail')
      .where({ token_id: id, action: 'token.exchanged' });
    expect(events).toEqual([]);
    const { lastUsedAt, lastUsedIp } = (await harness.stores.platformTokens.find(id, { all: true })) ?? {};
    expect([lastUsedAt, lastUsedIp]).toEqual([null, null]);
  });

  it('is no secret in the logs', async () => {
    const { token } = await harness.build.platformToken();
    const { id, secret } = await harness.build.client(['admin']);
    const { access_token: jwt } = await exchanged(token);
    const basic = Buffer.from(`${id}:${secret}`).toString('base64');
    const answers = [
      exchange(harness.url, token, {}, { authorization: `Bearer ${token}` }),
      exchange(harness.url, jwt),
      exchange(harness.url, token, { client_id: id, client_secret: secret }),
      postForm(harness.url, { grant_type: 'client_credentials' }, { authorization: `Basic ${basic}` }),
      fetch(`${harness.url}/oauth/token?subject_token=${token}`),
      fetch(`${harness.url}/${token}`),
      fetch(`${harness.url}/oauth/${jwt}`),
      fetch(`${harness.url}/x/${token.replace('_', '%5F')}`),
      fetch(`${harness.url}/x/${jwt.replaceAll('.', '%2E')}`),
      fetch(`${harness.url}/oauth/jwks`, { headers: { 'x-request-id': token, 'user-agent': token } }),
    ];
    for (const response of await Promise.all(answers)) await response.body?.cancel();
    await expect.poll(() => harness.logs().match(/"route":"unmatched"/g)?.length).toBe(4);
    const logs = harness.logs();
    for (const secretText of [token.slice(4), jwt, jwt.split('.')[1] ?? '', secret, basic]) {
      expect(logs).not.toContain(secretText);
    }
    expect(logs).not.toMatch(/ptk_[0-9A-Za-z]{20}|eyJ[\w-]{20}/);
  });
});
