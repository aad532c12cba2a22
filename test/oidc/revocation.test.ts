import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPlatformToken } from '../../server/domain/platform-token.ts';
import { authorizationRequest, createBrowser, signIn } from '../support/browser.ts';
import { basic, createHarness, exchange, type Harness, postForm, rawPost } from '../support/harness.ts';

const path = '/oauth/revoke';
const formType = 'application/x-www-form-urlencoded';
const password = 'a good long password';

let harness: Harness;
let client: { id: string; secret: string };
beforeAll(async () => {
  harness = await createHarness({ env: { RATE_LIMITS: 'off' } });
  client = await harness.build.client(['introspect']);
});
afterAll(async () => {
  const logs = harness.logs();
  await harness.close();
  expect(logs).toContain('"route":"/oauth/revoke"');
  expect(logs).not.toMatch(/"status":500|unexpected error|eyJ|ptk_/);
});

const post = (
  form: Record<string, string> | string,
  headers: Record<string, string> = {},
  url = harness.url,
) => postForm(url, form, headers, path);

async function refusal(response: Response | Promise<Response>) {
  const answer = await response;
  const body = (await answer.json()) as Record<string, unknown>;
  expect(body.error_description).toBeTypeOf('string');
  expect(answer.headers.get('content-type')).toBe('application/json; charset=utf-8');
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect(answer.headers.has('www-authenticate')).toBe(answer.status === 401);
  return [answer.status, body.error];
}

/** RFC 7009 §2.2 */
async function expectDone(response: Response | Promise<Response>) {
  const answer = await response;
  expect(await answer.text()).toBe('');
  expect(answer.status).toBe(200);
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect(answer.headers.get('content-length')).toBe('0');
}

const works = async (token: string, url = harness.url) => {
  const response = await exchange(url, token);
  await response.body?.cancel();
  return response.status === 200;
};
const events = (id: string) =>
  harness.database.knex('audit_events').where({ token_id: id, action: 'token.revoked' });

async function refreshToken(owner?: { id: string; secret: string }) {
  const organization = await harness.build.organization();
  const user = await harness.build.user({ organizationId: organization.id, password });
  const app =
    owner ??
    (await harness.build.client(
      ['openid', 'offline_access', 'tokens:read'],
      ['authorization_code', 'refresh_token'],
      ['https://app.example/cb'],
    ));
  const redirect_uri = 'https://app.example/cb';
  const request = authorizationRequest(harness, {
    client_id: app.id,
    redirect_uri,
    scope: 'openid offline_access tokens:read',
    prompt: 'consent',
  });
  const { code, verifier } = await signIn(harness, createBrowser(harness), { ...user, password }, request);
  const form = { grant_type: 'authorization_code', redirect_uri, code, code_verifier: verifier };
  const redeemed = await postForm(harness.url, form, basic(app.id, app.secret));
  const tokens = (await redeemed.json()) as { access_token: string; refresh_token: string };
  expect(tokens.refresh_token).toBeTypeOf('string');
  return { app, user, token: tokens.refresh_token, accessToken: tokens.access_token };
}

const grantEvents = (userId: string) =>
  harness.database.knex('audit_events').where({ target_id: userId, action: 'grant.revoked' });

const refresh = async (token: string, { id, secret }: { id: string; secret: string }) => {
  const form = { grant_type: 'refresh_token', refresh_token: token };
  const response = await postForm(harness.url, form, basic(id, secret));
  await response.body?.cancel();
  return response.status;
};

describe('a request', () => {
  it.each([
    ['without a token', 'x=y'],
    ['with an empty token', 'token='],
    ['with two tokens', 'token=a&token=b'],
    ['with two hints', 'token=a&token_type_hint=x&token_type_hint=y'],
    ['with a NUL', 'token=a%00'],
    ['with broken percent-encoding', 'token=%zz'],
  ])('%s is 400 invalid_request', async (_what, form) => {
    expect(await refusal(post(form))).toEqual([400, 'invalid_request']);
  });

  it('of another media type is 400, of another size 413, by another method 405, and revokes nothing', async () => {
    const { token } = await harness.build.platformToken();
    expect(await refusal(post(`{"token":"${token}"}`, { 'content-type': 'application/json' }))).toEqual([
      400,
      'invalid_request',
    ]);
    expect(await refusal(post(`token=${token}&x=${'a'.repeat(17_000)}`))).toEqual([413, 'invalid_request']);
    for (const method of ['GET', 'DELETE', 'PUT']) {
      const response = await fetch(`${harness.url}${path}?token=${token}`, { method });
      expect(response.headers.get('allow')).toBe('POST');
      expect(await refusal(response)).toEqual([405, 'invalid_request']);
    }
    expect(await refusal(postForm(harness.url, 'x=y', {}, `${path}?token=${token}`))).toEqual([
      400,
      'invalid_request',
    ]);
    expect(await works(token)).toBe(true);
  });

  it('with the token in the Authorization header only, or another one there, revokes neither', async () => {
    const { token } = await harness.build.platformToken();
    const other = await harness.build.platformToken();
    const headers = { authorization: `Bearer ${token}` };
    expect(await refusal(post('x=y', headers))).toEqual([400, 'invalid_request']);
    expect(await refusal(post({ token: other.token }, headers))).toEqual([400, 'invalid_request']);
    expect([await works(token), await works(other.token)]).toEqual([true, true]);
  });

  it('with bad credentials is 401, and revokes nothing', async () => {
    const { token } = await harness.build.platformToken();
    const { id, secret } = client;
    const requests: [Record<string, string>, Record<string, string>][] = [
      [{}, basic(id, 'wrong')],
      [{}, basic('nobody', secret)],
      [{}, basic('platform-tokens', 'x')],
      [{}, { authorization: 'Basic !!!' }],
      [{}, { authorization: `Digest ${token}` }],
      [{ client_id: id }, {}],
      [{ client_id: 'nobody' }, {}],
      [{ client_id: id, client_secret: 'wrong' }, {}],
      [{ client_id: 'dashboard', client_secret: 'x' }, {}],
      [{ client_secret: secret }, {}],
      [{ client_assertion: 'x', client_assertion_type: 'y' }, {}],
    ];
    for (const [form, headers] of requests)
      expect(await refusal(post({ token, ...form }, headers))).toEqual([401, 'invalid_client']);
    expect(await works(token)).toBe(true);
  });

  it('with two ways of authentication or two Authorization headers is 400, and revokes nothing', async () => {
    const { token } = await harness.build.platformToken();
    const { id, secret } = client;
    const good = basic(id, secret);
    for (const form of [{ client_id: 'dashboard' }, { client_id: id, client_secret: secret }])
      expect(await refusal(post({ token, ...form }, good))).toEqual([400, 'invalid_request']);
    for (const authorization of [
      [good.authorization, good.authorization],
      [`Bearer ${token}`, good.authorization],
    ]) {
      const headers = { 'content-type': formType, authorization };
      const { status, body } = await rawPost(harness.url + path, `token=${token}`, headers);
      expect([status, body.error]).toEqual([400, 'invalid_request']);
    }
    expect(await works(token)).toBe(true);
  });
});

describe('a JWT', () => {
  it('of any kind is 400 unsupported_token_type, and its platform token goes on working', async () => {
    const { token, userId } = await harness.build.platformToken();
    const { access_token: jwt } = (await (await exchange(harness.url, token)).json()) as {
      access_token: string;
    };
    const [header, payload] = jwt.split('.');
    for (const value of [
      jwt,
      await harness.build.userJwt(userId),
      await harness.build.machineJwt(),
      `${header}.${payload}.`,
      `${header}.a.b.c.d`,
    ]) {
      for (const headers of [{}, basic(client.id, client.secret), { authorization: `Bearer ${value}` }])
        expect(await refusal(post({ token: value }, headers as never))).toEqual([
          400,
          'unsupported_token_type',
        ]);
    }
    expect(await works(token)).toBe(true);
  });
});

describe('a platform token', () => {
  it('is revoked by whoever holds it, at once on every instance, once in the audit trail', async () => {
    const { token, id, organizationId } = await harness.build.platformToken();
    const other = await harness.another();
    try {
      expect(await works(token, other.url)).toBe(true);
      await expectDone(post({ token }, { 'user-agent': `curl ${token}` }));
      expect([await works(token), await works(token, other.url)]).toEqual([false, false]);
      await expectDone(post({ token }, {}, other.url));
    } finally {
      await other.close();
    }
    const trail = await events(id);
    expect(trail).toHaveLength(1);
    expect(trail[0]).toMatchObject({
      actor_type: 'token',
      actor_id: id,
      organization_id: organizationId,
      reason: 'presented for revocation',
      user_agent: 'curl [redacted]',
    });
    const row = await harness.database.knex('platform_tokens').where({ id }).first();
    expect(row).toMatchObject({ revoked_by: id, revoked_at: expect.any(Date) });
  });

  it('is revoked with any hint, with the same token as Bearer, and by an authenticated client', async () => {
    const { id, secret } = client;
    const requests: ((token: string) => [Record<string, string>, Record<string, string>])[] = [
      () => [{ token_type_hint: 'refresh_token' }, {}],
      () => [{ token_type_hint: 'nonsense' }, {}],
      (token) => [{}, { authorization: `Bearer ${token}` }],
      (token) => [{}, { authorization: `bearer  ${token}` }],
      () => [{}, basic(id, secret)],
      () => [{ client_id: id, client_secret: secret }, {}],
      () => [{ client_id: 'platform-tokens' }, {}],
      () => [{ client_id: 'dashboard' }, {}],
    ];
    for (const of of requests) {
      const { token } = await harness.build.platformToken();
      const [form, headers] = of(token);
      await expectDone(post({ token, ...form }, headers));
      expect(await works(token)).toBe(false);
    }
  });

  it('that has expired, or whose user is inactive, is revoked too', async () => {
    const createdAt = new Date(Date.now() - 800 * 86_400_000);
    const expired = await harness.build.platformToken({ createdAt });
    await expectDone(post({ token: expired.token }));
    expect(await events(expired.id)).toHaveLength(1);
  });

  it('presented many times at once has one event', async () => {
    const { token, id } = await harness.build.platformToken();
    await Promise.all(Array.from({ length: 20 }, () => expectDone(post({ token }))));
    expect(await events(id)).toHaveLength(1);
  });

  it('that is unknown, malformed or revoked already is 200', async () => {
    const revoked = await harness.build.platformToken({ revokedAt: new Date() });
    for (const token of [
      createPlatformToken('ptk').token,
      `${revoked.token.slice(0, -1)}!`,
      revoked.token,
      'hello',
      'a.b',
      'a.b.c',
      '\u{1F511}',
    ]) {
      await expectDone(post({ token }));
      await expectDone(post({ token }, basic(client.id, client.secret)));
    }
    expect(await events(revoked.id)).toHaveLength(0);
  });
});

describe('a refresh token', () => {
  it('needs its own client', async () => {
    const { app, user, token } = await refreshToken();
    expect(await refusal(post({ token }))).toEqual([401, 'invalid_client']);
    expect(await refusal(post({ token, client_id: app.id }))).toEqual([401, 'invalid_client']);
    expect(await refusal(post({ token }, basic(app.id, 'wrong')))).toEqual([401, 'invalid_client']);
    expect(await refusal(post({ token, client_id: 'dashboard' }))).toEqual([400, 'invalid_grant']);
    expect(await refusal(post({ token }, basic(client.id, client.secret)))).toEqual([400, 'invalid_grant']);
    expect(await refresh(token, app)).toBe(200);
    expect(await grantEvents(user.id)).toHaveLength(0);
  });

  it('ends with its grant, and so do the access tokens of it', async () => {
    const { app, token, accessToken } = await refreshToken();
    const me = () =>
      fetch(`${harness.url}/admin/me`, { headers: { authorization: `Bearer ${accessToken}` } });
    expect((await me()).status).toBe(200);
    await expectDone(post({ token }, basic(app.id, app.secret)));
    expect((await me()).status).toBe(401);
    expect(await refresh(token, app)).toBe(400);
    await expectDone(post({ token }, basic(app.id, app.secret)));
    await expectDone(post({ token }));
  });

  it('presented many times at once has one event: which client, for which user', async () => {
    const { app, user, token } = await refreshToken();
    const presented = () => post({ token }, { ...basic(app.id, app.secret), 'user-agent': `curl ${token}` });
    await Promise.all(Array.from({ length: 10 }, () => expectDone(presented())));
    const trail = await grantEvents(user.id);
    expect(trail).toHaveLength(1);
    expect(trail[0]).toMatchObject({
      actor_type: 'client',
      actor_id: app.id,
      organization_id: null,
      token_id: null,
      reason: 'presented for revocation',
    });
  });

  it('of a public client is revoked by its name', async () => {
    const { app, token } = await refreshToken();
    await harness.stores.clients.update(app.id, { secretDigest: null });
    expect(await refusal(post({ token, client_id: app.id, client_secret: 'x' }))).toEqual([
      401,
      'invalid_client',
    ]);
    await expectDone(post({ token, client_id: app.id }));
    const artifacts = await harness.database.knex('oidc_artifacts').where({ kind: 'RefreshToken' });
    await expectDone(post({ token, client_id: app.id }));
    expect(await harness.database.knex('oidc_artifacts').where({ kind: 'RefreshToken' })).toHaveLength(
      artifacts.length,
    );
  });

  it('is inactive at introspection, to its own client too', async () => {
    const app = await harness.build.client(
      ['openid', 'offline_access', 'tokens:read', 'introspect'],
      ['authorization_code', 'refresh_token'],
      ['https://app.example/cb'],
    );
    const { token } = await refreshToken(app);
    const response = await postForm(harness.url, { token }, basic(app.id, app.secret), '/oauth/introspect');
    expect(await response.json()).toEqual({ active: false });
  });
});

it('is in the metadata', async () => {
  const response = await fetch(`${harness.url}/.well-known/oauth-authorization-server`);
  expect(await response.json()).toMatchObject({
    revocation_endpoint: `${harness.issuer}/oauth/revoke`,
    revocation_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post', 'none'],
  });
});
