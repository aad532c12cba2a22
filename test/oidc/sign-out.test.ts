import { decodeJwt, exportJWK, generateKeyPair, importJWK, SignJWT } from 'jose';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { authorizationRequest, type Browser, createBrowser, signIn } from '../support/browser.ts';
import { createHarness, type Harness, postForm } from '../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(async () => {
  const logs = harness.logs();
  await harness.close();
  expect(logs).not.toMatch(/"status":500|unexpected error/);
});
afterEach(() => {
  vi.restoreAllMocks();
});

const password = 'a good long password';

interface Tokens {
  access_token: string;
  id_token: string;
  refresh_token?: string;
}

async function signedIn({
  on = harness,
  change = {},
  user,
}: {
  on?: Harness;
  change?: Record<string, string>;
  user?: { id: string; email: string };
} = {}) {
  const person = user ?? (await on.build.user({ password }));
  const browser = createBrowser(on, { 'user-agent': 'a browser' });
  const request = authorizationRequest(on, change);
  const { code, verifier } = await signIn(on, browser, { email: person.email, password }, request);
  return { browser, user: person, tokens: await redeem(on, code, verifier) };
}

async function redeem(
  { url, issuer }: Harness,
  code: string,
  verifier: string,
  client?: { id: string; secret: string; redirectUri: string },
): Promise<Tokens> {
  const form = {
    grant_type: 'authorization_code',
    redirect_uri: client?.redirectUri ?? `${issuer}/dashboard/callback`,
    code,
    code_verifier: verifier,
    ...(client ? {} : { client_id: 'dashboard' }),
  };
  const response = await postForm(url, form, client ? basic(client) : {});
  expect(response.status).toBe(200);
  return (await response.json()) as Tokens;
}

const basic = ({ id, secret }: { id: string; secret: string }) => ({
  authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`,
});
const events = (userId: string) =>
  harness.database.knex('audit_events').where({ action: 'user.signed_out', actor_id: userId });
const logout = (parameters: Record<string, string> = {}) =>
  `${harness.issuer}/oauth/logout?${new URLSearchParams(parameters)}`;
const dashboard = () => ({
  client_id: 'dashboard',
  post_logout_redirect_uri: `${harness.issuer}/dashboard`,
  state: 'a-state',
});
const isSignedIn = async (browser: Browser) => {
  const { location } = await browser.get(authorizationRequest(harness, { prompt: 'none' }).url);
  return location?.searchParams.has('code') ?? false;
};
const xsrfOf = (page: string) => /name="xsrf" value="([^"]+)"/.exec(page)?.[1] ?? '';
const me = async (token: string) =>
  (await fetch(`${harness.url}/admin/me`, { headers: { authorization: `Bearer ${token}` } })).status;

it('refuses a form that was not asked for, and stays signed in', async () => {
  const { browser } = await signedIn();
  await browser.get(logout(dashboard()));
  for (const xsrf of ['', 'x', 'x'.repeat(48)]) {
    const refused = await browser.post(`${harness.issuer}/oauth/logout/confirm`, { xsrf, logout: 'yes' });
    expect(refused.status).toBe(400);
    expect(refused.location).toBeUndefined();
  }
  expect(await isSignedIn(browser)).toBe(true);
});

it.each([
  ['an unknown client', { client_id: 'nobody' }],
  ['a foreign address to return to', { post_logout_redirect_uri: 'https://evil.example/' }],
  ['a hint that is none', { id_token_hint: 'x.y.z' }],
])('refuses %s, and never leads there', async (_what, change) => {
  const { browser } = await signedIn();
  const refused = await browser.get(logout({ ...dashboard(), ...change }));
  expect(refused.status).toBe(400);
  expect(refused.location).toBeUndefined();
  expect(refused.text).not.toContain('evil');
});

it('asks by a plain form, ends the session and what it gave, and leads back', async () => {
  const info = [vi.spyOn(console, 'info'), vi.spyOn(console, 'warn'), vi.spyOn(console, 'error')];
  const { browser, tokens, user } = await signedIn();
  const page = await browser.get(logout(dashboard()));
  expect(page.status).toBe(200);
  expect(page.text).toMatch(
    /<form id="op\.logoutForm" method="post" action="[^"]*\/oauth\/logout\/confirm">/,
  );
  expect(page.text).toContain('<button form="op.logoutForm" name="logout" value="yes"');
  expect(page.text).not.toContain('<script');
  expect(page.headers.get('content-security-policy')).toMatch(/^default-src 'none'; style-src 'sha256-/);
  expect(await me(tokens.access_token)).toBe(200);
  expect(await events(user.id)).toEqual([]);

  const confirmed = await browser.post(`${harness.issuer}/oauth/logout/confirm`, {
    xsrf: xsrfOf(page.text),
    logout: 'yes',
  });
  expect(confirmed.status).toBe(303);
  expect(confirmed.location?.href).toBe(`${harness.issuer}/dashboard?state=a-state`);
  expect(browser.cookie('pt_session')).toBeUndefined();
  expect(await isSignedIn(browser)).toBe(false);
  expect(await me(tokens.access_token)).toBe(401);
  expect(await events(user.id)).toMatchObject([
    { actor_type: 'user', target_id: user.id, ip: '127.0.0.1', user_agent: 'a browser', reason: null },
  ]);
  for (const spy of info) {
    for (const [line] of spy.mock.calls) expect(line).toMatch(/already parsed request body/);
  }
});

it('ends this session only', async () => {
  const { browser } = await signedIn();
  const other = await signedIn();
  const page = await browser.get(logout(dashboard()));
  await browser.post(`${harness.issuer}/oauth/logout/confirm`, { xsrf: xsrfOf(page.text), logout: 'yes' });
  expect(await isSignedIn(other.browser)).toBe(true);
  expect(await me(other.tokens.access_token)).toBe(200);
});

it('without a client says that it is done', async () => {
  const { browser } = await signedIn();
  const page = await browser.get(logout());
  const confirmed = await browser.post(`${harness.issuer}/oauth/logout/confirm`, {
    xsrf: xsrfOf(page.text),
    logout: 'yes',
  });
  expect(confirmed.location?.pathname).toBe('/oauth/logout/success');
  const done = await browser.get(String(confirmed.location));
  expect([done.status, done.text.includes('You are signed out')]).toEqual([200, true]);
});

it('asks nothing where nobody is signed in', async () => {
  const browser = createBrowser(harness);
  const back = await browser.get(logout(dashboard()));
  expect([back.status, back.location?.href]).toEqual([303, `${harness.issuer}/dashboard?state=a-state`]);
  const done = await browser.get(logout());
  expect([done.status, done.location?.pathname]).toEqual([303, '/oauth/logout/success']);
});

describe('with an ID token of this very session', () => {
  const signOut = (browser: Browser, id_token_hint: string, more: Record<string, string> = {}) =>
    browser.get(logout({ ...dashboard(), id_token_hint, ...more }));
  const isAsked = async (browser: Browser, id_token_hint: string, more: Record<string, string> = {}) => {
    const page = await signOut(browser, id_token_hint, more);
    expect([page.status, page.location]).toEqual([200, undefined]);
    return page.text.includes('name="xsrf"') && (await isSignedIn(browser));
  };
  /** An ID token by the server's own key, with other claims. */
  const idToken = (claims: Record<string, unknown>) =>
    harness.build.jwt({ aud: 'dashboard', ...claims }, { typ: 'JWT' });

  it('signs out at once, and leads back', async () => {
    const { browser, tokens, user } = await signedIn();
    expect(await me(tokens.access_token)).toBe(200);
    const answer = await signOut(browser, tokens.id_token);
    expect([answer.status, answer.location?.href]).toEqual([
      303,
      `${harness.issuer}/dashboard?state=a-state`,
    ]);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.text).not.toContain('<form');
    expect(await me(tokens.access_token)).toBe(401);
    expect(await isSignedIn(browser)).toBe(false);
    expect(await events(user.id)).toMatchObject([
      {
        actor_type: 'user',
        target_id: user.id,
        organization_id: null,
        ip: '127.0.0.1',
        user_agent: 'a browser',
        request_id: answer.headers.get('x-request-id'),
      },
    ]);
  });

  it('takes the cookies of the session away, and leaves nothing of it in the database', async () => {
    const { browser, tokens } = await signedIn();
    const kept = browser.cookie('pt_session');
    const artifacts = () => harness.database.knex('oidc_artifacts').whereIn('kind', ['Session', 'Grant']);
    const before = (await artifacts()).length;
    const { headers } = await signOut(browser, tokens.id_token);
    const cookies = headers.getSetCookie().filter((cookie) => cookie.startsWith('pt_session'));
    expect(cookies.map((cookie) => cookie.split('=')[0])).toEqual(['pt_session', 'pt_session.sig']);
    for (const cookie of cookies) expect(cookie).toContain('path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT');
    expect(browser.cookie('pt_session')).toBeUndefined();
    expect(browser.cookie('pt_known_browser')).toBeDefined();
    expect((await artifacts()).length).toBe(before - 2);
    browser.jar.set('pt_session|/', { value: String(kept), path: '/' });
    expect(await isSignedIn(browser)).toBe(false);
  });

  it.each([
    ['the page that says so', undefined, 'a-state', '/oauth/logout/success'],
    ['the page that says so, without a client_id too', undefined, undefined, '/oauth/logout/success'],
    ["the dashboard's own page", '/dashboard/signed-out', 'a b&c', '/dashboard/signed-out?state=a+b%26c'],
    ['the dashboard, without a state', '/dashboard', undefined, '/dashboard'],
  ])('leads to %s', async (_, back, state, wanted) => {
    const { browser, tokens } = await signedIn();
    const answer = await browser.get(
      logout({
        id_token_hint: tokens.id_token,
        ...(back === undefined ? {} : { post_logout_redirect_uri: `${harness.issuer}${back}` }),
        ...(state === undefined ? {} : { client_id: 'dashboard', state }),
      }),
    );
    expect([answer.status, answer.location?.href]).toEqual([303, `${harness.issuer}${wanted}`]);
    expect(await me(tokens.access_token)).toBe(401);
    if (back === undefined) {
      const page = await browser.get(String(answer.location));
      expect([page.status, page.text.includes('You are signed out')]).toEqual([200, true]);
    }
  });

  it.each(['/', '/dashboard/', '/dashboard/signed-out/', '/dashboard/callback', '/dashboard?x=1'])(
    'refuses to lead to %s, and stays signed in',
    async (path) => {
      const { browser, tokens } = await signedIn();
      const change = { post_logout_redirect_uri: `${harness.issuer}${path}` };
      const answer = await signOut(browser, tokens.id_token, change);
      expect([answer.status, answer.location]).toEqual([400, undefined]);
      expect(await isSignedIn(browser)).toBe(true);
    },
  );

  it('does so when the ID token has expired (§2), or says when the user signed in', async () => {
    const { browser, user, tokens } = await signedIn();
    const now = Math.floor(Date.now() / 1000);
    const expired = await idToken({ sub: user.id, iat: now, exp: now - 1 });
    expect((await signOut(browser, expired)).status).toBe(303);
    expect(await me(tokens.access_token)).toBe(401);

    const other = await signedIn({ change: { max_age: '3600' } });
    expect(decodeJwt(other.tokens.id_token).auth_time).toEqual(expect.any(Number));
    expect((await signOut(other.browser, other.tokens.id_token)).status).toBe(303);
    expect(await me(other.tokens.access_token)).toBe(401);
  });

  it('ends what other clients got in this session, and keeps what they got for offline use', async () => {
    const { browser, tokens } = await signedIn();
    const redirectUri = 'https://app.example/cb';
    const walk = async (scopes: string[], more: Record<string, string> = {}) => {
      const grants = ['authorization_code', 'refresh_token'];
      const client = await harness.build.client(scopes, grants, [redirectUri]);
      const request = authorizationRequest(harness, {
        client_id: client.id,
        redirect_uri: redirectUri,
        scope: scopes.join(' '),
        ...more,
      });
      const { location } = await browser.get(request.url);
      const code = String(location?.searchParams.get('code'));
      return { client, tokens: await redeem(harness, code, request.verifier, { ...client, redirectUri }) };
    };
    const online = await walk(['openid', 'tokens:read']);
    const offline = await walk(['openid', 'offline_access', 'tokens:read'], { prompt: 'consent' });
    expect(await me(online.tokens.access_token)).toBe(200);
    expect((await signOut(browser, tokens.id_token)).status).toBe(303);
    expect(await me(online.tokens.access_token)).toBe(401);
    const refreshed = await postForm(
      harness.url,
      { grant_type: 'refresh_token', refresh_token: String(offline.tokens.refresh_token) },
      basic(offline.client),
    );
    expect(refreshed.status).toBe(200);
  });

  it('ends this session only, and asks in another session that began after the ID token', async () => {
    const { browser, tokens, user } = await signedIn();
    const other = await signedIn({ user });
    expect((await signOut(browser, tokens.id_token)).status).toBe(303);
    expect(await isSignedIn(other.browser)).toBe(true);
    expect(await me(other.tokens.access_token)).toBe(200);
    const iat = Math.floor(Date.now() / 1000) - 60;
    expect(await isAsked(other.browser, await idToken({ sub: user.id, iat }))).toBe(true);
    const auth_time = iat;
    expect(await isAsked(other.browser, await idToken({ sub: user.id, auth_time }))).toBe(true);
    expect(await events(user.id)).toHaveLength(1);
  });

  it("asks where it is another user's, or was given to a client that has nothing in this session", async () => {
    const { browser, tokens, user } = await signedIn();
    const other = await signedIn();
    expect(await isAsked(browser, other.tokens.id_token)).toBe(true);
    for (const sub of [uuidv7(), user.id.toUpperCase()]) {
      expect(await isAsked(browser, await idToken({ sub }))).toBe(true);
    }
    const client = await harness.build.client(['openid'], ['authorization_code'], ['https://app.example/cb']);
    const foreign = await harness.build.jwt({ aud: client.id, sub: user.id }, { typ: 'JWT' });
    const page = await browser.get(logout({ id_token_hint: foreign }));
    expect([page.status, page.text.includes('name="xsrf"')]).toEqual([200, true]);
    expect(await me(tokens.access_token)).toBe(200);
    expect(await events(user.id)).toEqual([]);

    const confirmed = await browser.post(`${harness.issuer}/oauth/logout/confirm`, {
      xsrf: xsrfOf(page.text),
      logout: 'yes',
    });
    expect([confirmed.status, await me(tokens.access_token)]).toEqual([303, 401]);
    expect(await events(user.id)).toHaveLength(1);
  });

  it('refuses one that is forged, of another client or issuer, or no ID token', async () => {
    const { browser, tokens, user } = await signedIn();
    const [header, payload, signature] = tokens.id_token.split('.');
    const stranger = await generateKeyPair('ES256', { extractable: true });
    const { kid } = JSON.parse(Buffer.from(String(header), 'base64url').toString());
    const foreignKey = await importJWK(await exportJWK(stranger.privateKey), 'ES256');
    const forged = await new SignJWT({ ...decodeJwt(tokens.id_token) })
      .setProtectedHeader({ alg: 'ES256', kid })
      .sign(foreignKey);
    const none = Buffer.from(JSON.stringify({ alg: 'none' })).toString('base64url');
    const claims = { sub: user.id };
    for (const hint of [
      forged,
      `${header}.${payload}.${'A'.repeat(86)}`,
      `${header}.${payload}.`,
      `${none}.${payload}.`,
      `${header}.${Buffer.from(JSON.stringify({ ...decodeJwt(tokens.id_token), sub: uuidv7() })).toString('base64url')}.${signature}`,
      await idToken({ ...claims, iss: 'http://elsewhere.test' }),
      await idToken({ ...claims, aud: 'nobody' }),
      await idToken({ ...claims, aud: ['dashboard', 'other'] }),
      await idToken({ ...claims, aud: undefined }),
      await idToken({ sub: undefined }),
      tokens.access_token,
      'no-token',
    ]) {
      const refused = await signOut(browser, hint);
      expect([hint, refused.status, refused.location]).toEqual([hint, 400, undefined]);
      expect(refused.text).not.toContain(hint);
    }
    const client = await harness.build.client(['openid'], ['authorization_code'], ['https://app.example/cb']);
    const mismatch = await browser.get(logout({ client_id: client.id, id_token_hint: tokens.id_token }));
    expect(mismatch.status).toBe(400);
    expect(await isSignedIn(browser)).toBe(true);
    expect(await me(tokens.access_token)).toBe(200);
    expect(await events(user.id)).toEqual([]);
  });

  it.each(['\0', 'a\0b', "' OR 1=1 --", 'a'.repeat(1_000)])(
    'asks nothing of the database for a hint of no client that there could be',
    async (aud) => {
      const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
      const hint = `${part({ alg: 'ES256' })}.${part({ aud })}.`;
      const answer = await createBrowser(harness).get(logout({ id_token_hint: hint }));
      expect(answer.status).toBe(400);
    },
  );

  it('does nothing for HEAD or POST', async () => {
    const { browser, tokens, user } = await signedIn();
    const parameters = { ...dashboard(), id_token_hint: tokens.id_token };
    const cookie = [...browser.jar.entries()]
      .map(([name, { value }]) => `${name.split('|')[0]}=${value}`)
      .join('; ');
    const head = await fetch(logout(parameters).replace(harness.issuer, harness.url), {
      method: 'HEAD',
      redirect: 'manual',
      headers: { cookie },
    });
    expect([head.status, head.headers.get('location')]).toEqual([200, null]);
    const post = await browser.post(`${harness.issuer}/oauth/logout`, parameters);
    expect([post.status, post.location]).toEqual([405, undefined]);
    expect(await isSignedIn(browser)).toBe(true);
    expect(await me(tokens.access_token)).toBe(200);
    expect(await events(user.id)).toEqual([]);
  });

  it('leads back where nobody is signed in any more, and records nothing', async () => {
    const { browser, tokens, user } = await signedIn();
    for (let n = 0; n < 2; n += 1) {
      const answer = await signOut(browser, tokens.id_token);
      expect([answer.status, answer.location?.pathname]).toEqual([303, '/dashboard']);
    }
    expect(await events(user.id)).toHaveLength(1);
    expect((await signOut(createBrowser(harness), tokens.id_token)).status).toBe(303);
    expect(await events(user.id)).toHaveLength(1);
  });

  it.each([
    ['http://issuer.test/idm', 'pt_session', '/idm'],
    ['https://id.example.com', '__Host-pt_session', '/'],
    ['https://eu.example.com/idm', '__Secure-pt_session', '/idm'],
  ])('works for the issuer %s', async (issuer, name, path) => {
    const on = await createHarness({ env: { ISSUER: issuer } });
    try {
      const { browser, tokens, user } = await signedIn({ on });
      const answer = await browser.get(
        `${issuer}/oauth/logout?${new URLSearchParams({
          id_token_hint: tokens.id_token,
          post_logout_redirect_uri: `${issuer}/dashboard/signed-out`,
          state: 's',
        })}`,
      );
      expect([answer.status, answer.location?.href]).toEqual([303, `${issuer}/dashboard/signed-out?state=s`]);
      const [cookie] = answer.headers.getSetCookie().filter((line) => line.startsWith(`${name}=`));
      expect(cookie).toContain(`${name}=; path=${path}; expires=Thu, 01 Jan 1970`);
      expect(/; secure/.test(String(cookie))).toBe(issuer.startsWith('https:'));
      const dead = await fetch(`${on.url}/admin/me`, {
        headers: { authorization: `Bearer ${tokens.access_token}` },
      });
      expect(dead.status).toBe(401);
      const silent = await browser.get(authorizationRequest(on, { prompt: 'none' }).url);
      expect(silent.location?.searchParams.get('error')).toBe('login_required');
      const { count } = (await on.database
        .knex('audit_events')
        .where({ action: 'user.signed_out', actor_id: user.id })
        .count({ count: '*' })
        .first()) as { count: string };
      expect(Number(count)).toBe(1);
    } finally {
      await on.close();
    }
  });
});
