import { createHash } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import bcrypt from 'bcrypt';
import { decodeJwt } from 'jose';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { hashPassword } from '../../server/domain/password.ts';
import { authTimeOf, endedBySignOut } from '../../server/domain/sign-out.ts';
import {
  type Answer,
  authorizationRequest,
  createBrowser,
  followToClient,
  openSignIn,
  signIn,
} from '../support/browser.ts';
import { createHarness, type Harness, postForm } from '../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness({ env: { RATE_LIMITS: 'off' } });
});
afterAll(async () => {
  const logs = harness.logs();
  await harness.close();
  expect(logs).not.toMatch(/"status":500|unexpected error/);
  expect(logs).not.toContain(password);
});
afterEach(() => {
  vi.restoreAllMocks();
});

const password = 'a good long password';
const person = async () => {
  const organization = await harness.build.organization();
  return { ...(await harness.build.user({ organizationId: organization.id, password })), password };
};

/** Redeems a code as the dashboard does. */
function redeem(code: string, verifier: string): Promise<Response> {
  return postForm(harness.url, {
    grant_type: 'authorization_code',
    client_id: 'dashboard',
    redirect_uri: `${harness.issuer}/dashboard/callback`,
    code,
    code_verifier: verifier,
  });
}

async function accessToken(code: string, verifier: string): Promise<string> {
  const response = await redeem(code, verifier);
  expect(response.status).toBe(200);
  return ((await response.json()) as { access_token: string }).access_token;
}

const me = async (token: string) => {
  const response = await fetch(`${harness.url}/admin/me`, { headers: { authorization: `Bearer ${token}` } });
  return { status: response.status, body: (await response.json()) as { id?: string } };
};

const csp = (answer: Answer) => answer.headers.get('content-security-policy') ?? '';

function expectOwnPage(answer: Answer, status: number): void {
  expect(answer.status).toBe(status);
  expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8');
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect(answer.headers.get('referrer-policy')).toBe('no-referrer');
  expect(answer.headers.get('vary')).toMatch(/accept-language/i);
  const style = /<style>(.*?)<\/style>/s.exec(answer.text)?.[1] ?? '';
  const digest = createHash('sha256').update(style).digest('base64');
  expect(csp(answer)).toMatch(/^default-src 'none'; /);
  expect(csp(answer)).toContain(`style-src 'sha256-${digest}'`);
  expect(csp(answer)).toContain("form-action 'self'");
  expect(csp(answer)).toContain("frame-ancestors 'none'");
  expect(csp(answer)).not.toContain('unsafe');
  expect(answer.text).not.toMatch(/<script|style="| on\w+="/);
}

describe('the sign-in page refuses', () => {
  it.each([
    ['a wrong password', async () => ({ email: (await person()).email, password: 'a wrong password' })],
    ['an empty password', async () => ({ email: (await person()).email, password: '' })],
    ['no fields', async () => ({})],
    ['an unknown e-mail', async () => ({ email: 'nobody@example.com', password })],
    ['an e-mail with NUL', async () => ({ email: 'nobody\0@example.com', password })],
    ['an e-mail that is a pattern', async () => ({ email: '%', password })],
    [
      'an inactive user',
      async () => ({ email: (await harness.build.user({ password, status: 'inactive' })).email, password }),
    ],
    [
      'a service account',
      async () => ({ email: (await harness.build.user({ kind: 'service_account' })).email, password }),
    ],
    ['a user without a password', async () => ({ email: (await harness.build.user()).email, password })],
    [
      'a password that only begins like the right one, at 72 bytes',
      async () => {
        const { email } = await harness.build.user({ password: 'x'.repeat(72) });
        return { email, password: 'x'.repeat(73) };
      },
    ],
  ])('%s, in the same words and by the same path', async (_what, credentials) => {
    const form = (await credentials()) as Record<string, string>;
    const browser = createBrowser(harness);
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    const compare = vi.spyOn(bcrypt, 'compare');
    const refused = await browser.post(url, form);
    expect(compare).toHaveBeenCalledTimes(1);
    expectOwnPage(refused, 422);
    expect(refused.text).toContain(
      '<p class="alert" id="alert" role="alert">Incorrect email or password.</p>',
    );
    const [event] = await harness.database
      .knex('audit_events')
      .orderBy('id', 'desc')
      .limit(1)
      .select('action', 'actor_type', 'actor_id', 'target_id');
    const known = await harness.stores.users.findCredentials((form.email ?? '').replaceAll('\0', ''));
    expect(event).toEqual({
      action: 'user.sign_in_failed',
      actor_type: 'system',
      actor_id: 'sign-in',
      target_id: known?.user.id ?? null,
    });
    expect(browser.cookie('pt_session')).toBeUndefined();
  });

  it('a form of another site, before anything is looked at', async () => {
    const user = await person();
    const browser = createBrowser(harness);
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    for (const headers of [
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
      { origin: 'https://evil.example' },
      { origin: 'http://issuer.test:8080' },
    ]) {
      const refused = await browser.post(url, { email: user.email, password }, headers as never);
      expectOwnPage(refused, 403);
    }
    const accepted = await browser.post(
      url,
      { email: user.email, password },
      { 'sec-fetch-site': 'same-origin', origin: 'null' },
    );
    expect(accepted.status).toBe(303);
  });

  it.each([
    ['too large', `email=${'a'.repeat(17_000)}`, {}, 413],
    ['repeated fields', 'email=a%40example.com&email=b%40example.com&password=x', {}, 400],
    ['no UTF-8', Uint8Array.of(0x65, 0x3d, 0xff), {}, 400],
    ['JSON', '{"email":"a@example.com"}', { 'content-type': 'application/json' }, 415],
  ])('a body that is no such form: %s', async (_what, body, headers, status) => {
    const browser = createBrowser(harness);
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    expectOwnPage(await browser.post(url, body as string, headers as never), status);
  });

  it('to repeat what was typed as markup', async () => {
    const browser = createBrowser(harness);
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    const refused = await browser.post(url, { email: `"><script>alert('1')</script>&amp;`, password: 'x' });
    expectOwnPage(refused, 422);
    expect(refused.text).toContain(
      'value="&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;"',
    );
    const hinted = await openSignIn(browser, authorizationRequest(harness, { login_hint: '"><b>x' }));
    expectOwnPage(hinted.page, 200);
    expect(hinted.page.text).toContain('value="&quot;&gt;&lt;b&gt;x"');
  });
});

describe('a sign-in that is gone gets a page with a way on, never a fault', () => {
  const expectGone = (answer: Answer) => {
    expectOwnPage(answer, 400);
    expect(answer.text).toContain('This sign-in has ended');
    expect(answer.text).toContain(`href="${harness.issuer}/dashboard"`);
  };

  it('in another browser', async () => {
    const user = await person();
    const { url } = await openSignIn(createBrowser(harness), authorizationRequest(harness));
    const other = createBrowser(harness);
    expectGone(await other.get(url));
    expectGone(await other.post(url, { email: user.email, password }));
    await openSignIn(other, authorizationRequest(harness));
    expectGone(await other.post(url, { email: user.email, password }));
  });

  it('with the cookie of another sign-in of this browser', async () => {
    const browser = createBrowser(harness);
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    const { url: otherUrl } = await openSignIn(browser, authorizationRequest(harness));
    const cookies = [...browser.jar].filter(([, { path }]) => path === url.pathname);
    const cookie = cookies.map(([name, { value }]) => `${name.split('|')[0]}=${value}`).join('; ');
    expectGone(await createBrowser(harness, { cookie }).get(otherUrl));
  });

  it('after it has finished, by the back button and by its own redirects', async () => {
    const user = await person();
    const browser = createBrowser(harness);
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    const accepted = await browser.post(url, { email: user.email, password });
    await followToClient(browser, accepted, harness);
    expectGone(await browser.get(url));
    expectGone(await browser.post(url, { email: user.email, password }));
    expectGone(await browser.get(String(accepted.location)));
  });

  it('after it ended while the password was being looked at: the form was sent twice', async () => {
    const user = await person();
    const browser = createBrowser(harness);
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    const { knex } = harness.owner;
    // The attempt waits with its audit event, which comes after the password.
    const transaction = await knex.transaction();
    await transaction.raw('LOCK TABLE audit_events IN EXCLUSIVE MODE');
    const answer = browser.post(url, { email: user.email, password });
    const waiting = async () =>
      (
        await knex.raw(
          "SELECT FROM pg_locks WHERE relation = 'audit_events'::regclass AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
      ).rows.length;
    await expect.poll(waiting, { timeout: 10_000 }).toBe(1);
    await knex('oidc_artifacts').where({ kind: 'Interaction' }).delete();
    await transaction.commit();
    expectGone(await answer);
  });

  it('after it has expired', async () => {
    const browser = createBrowser(harness);
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    await harness.database
      .knex('oidc_artifacts')
      .where({ kind: 'Interaction' })
      .update({ expires_at: new Date() });
    expectGone(await browser.get(url));
    expectGone(await browser.post(url, { email: 'a@example.com', password }));
  });

  it.each(['x', '%00', 'a'.repeat(5000), '%ff', '..%2f..'])('with a made-up id: %.10s', async (uid) => {
    const answer = await createBrowser(harness).get(`${harness.issuer}/oauth/sign-in/${uid}`);
    expect([400, 404]).toContain(answer.status);
    expect(answer.text).not.toContain('aaaaaaaaaa');
  });
});

describe('the walk', () => {
  it('leads from the authorization request to an access token that opens the admin API', async () => {
    const user = await person();
    const browser = createBrowser(harness);
    const request = authorizationRequest(harness);
    const { url, page } = await openSignIn(browser, request);
    expectOwnPage(page, 200);
    expect(page.text).toMatch(/^<!doctype html>\n<html lang="en">/);
    expect(page.text).toMatch(
      /<label for="email">.*<input id="email" name="email"[^>]* autocomplete="username"/s,
    );
    expect(page.text).toMatch(
      /<label for="password">.*<input id="password" name="password"[^>]* autocomplete="current-password"/s,
    );
    expect(page.text).toContain(`<form method="post" action="${url.pathname}">`);

    const refused = await browser.post(url, { email: user.email, password: 'not the password' });
    expect(refused.status).toBe(422);
    expect(refused.text).toContain(`value="${user.email}"`);
    expect(refused.text).not.toContain('not the password');

    const typed = `  ${user.email.toUpperCase()} `;
    const accepted = await browser.post(url, { email: typed, password });
    expect(accepted.status).toBe(303);
    const callback = await followToClient(browser, accepted, harness);
    expect(callback.origin + callback.pathname).toBe(`${harness.issuer}/dashboard/callback`);
    expect([...callback.searchParams.keys()].sort()).toEqual(['code', 'iss', 'state']);
    expect(callback.searchParams.get('state')).toBe('a-state');
    expect(callback.searchParams.get('iss')).toBe(harness.issuer);

    const response = await redeem(String(callback.searchParams.get('code')), request.verifier);
    expect(response.status).toBe(200);
    const tokens = (await response.json()) as Record<string, string>;
    expect(tokens).toMatchObject({ token_type: 'Bearer', expires_in: 600 });
    expect(tokens.scope?.split(' ').sort()).toEqual(['tokens:read', 'tokens:write']);
    expect(decodeJwt(String(tokens.id_token))).toMatchObject({
      sub: user.id,
      aud: 'dashboard',
      iss: harness.issuer,
    });
    expect(tokens.refresh_token).toBeUndefined();
    expect(await me(String(tokens.access_token))).toMatchObject({ status: 200, body: { id: user.id } });

    const [event] = await harness.database
      .knex('audit_events')
      .where({ action: 'user.signed_in', target_id: user.id });
    expect(event).toMatchObject({
      actor_type: 'user',
      actor_id: user.id,
      ip: '127.0.0.1',
      organization_id: null,
    });
  });

  it('changes the session id at sign-in, and keeps cookies from scripts', async () => {
    const user = await person();
    const browser = createBrowser(harness);
    // Signing out without a session leaves an anonymous one behind: as good as one that a stranger has planted.
    await browser.get(`${harness.issuer}/oauth/logout`);
    const before = browser.cookie('pt_session');
    expect(before).toBeTruthy();
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    const accepted = await browser.post(url, { email: user.email, password });
    const resumed = await browser.get(String(accepted.location));
    const after = browser.cookie('pt_session');
    expect(after).toBeTruthy();
    expect(after).not.toBe(before);
    for (const cookie of [...accepted.headers.getSetCookie(), ...resumed.headers.getSetCookie()]) {
      expect(cookie).toMatch(/; samesite=lax/i);
      expect(cookie).toMatch(/; httponly/i);
      expect(cookie).not.toMatch(/; secure/i);
    }
  });

  it('is silent for whoever is signed in, and login_required for whoever is not', async () => {
    const user = await person();
    const browser = createBrowser(harness);
    const silent = () => authorizationRequest(harness, { prompt: 'none' });
    const before = await browser.get(silent().url);
    expect(before.location?.searchParams.get('error')).toBe('login_required');
    expect(before.location?.searchParams.get('state')).toBe('a-state');

    await signIn(harness, browser, user);
    const request = silent();
    const { location } = await browser.get(request.url);
    expect(location?.origin).toBe(harness.issuer);
    const token = await accessToken(String(location?.searchParams.get('code')), request.verifier);
    expect((await me(token)).status).toBe(200);
  });

  it('speaks German to whom German is dear', async () => {
    const browser = createBrowser(harness, { 'accept-language': 'fr;q=0.1, de-AT, en;q=0.5' });
    const { url, page } = await openSignIn(browser, authorizationRequest(harness));
    expect(page.text).toContain('<html lang="de">');
    expect(page.headers.get('content-language')).toBe('de');
    expect(page.text).toContain('<label for="password">Passwort</label>');
    const refused = await browser.post(url, { email: 'nobody@example.com', password });
    expect(refused.text).toContain('E-Mail-Adresse oder Passwort ist falsch.');
    const french = createBrowser(harness, { 'accept-language': 'fr' });
    expect((await openSignIn(french, authorizationRequest(harness))).page.text).toContain('<html lang="en">');
  });

  it('asks nobody for consent, and gives no machine scope to a user', async () => {
    const user = await person();
    const client = await harness.build.client(
      ['openid', 'tokens:read', 'admin', 'offline_access'],
      ['authorization_code', 'refresh_token'],
      ['https://app.example/cb'],
    );
    const browser = createBrowser(harness);
    const request = authorizationRequest(harness, {
      client_id: client.id,
      redirect_uri: 'https://app.example/cb',
      scope: 'openid tokens:read admin offline_access',
      prompt: 'consent',
    });
    const { page } = await openSignIn(browser, request);
    expect(csp(page)).toContain("form-action 'self' https://app.example;");
    const { code, verifier, callback } = await signIn(harness, createBrowser(harness), user, request);
    expect(callback.origin).toBe('https://app.example');
    const redeemed = await postForm(
      harness.url,
      {
        grant_type: 'authorization_code',
        redirect_uri: 'https://app.example/cb',
        code,
        code_verifier: verifier,
      },
      { authorization: `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString('base64')}` },
    );
    const tokens = (await redeemed.json()) as Record<string, string>;
    expect(redeemed.status).toBe(200);
    expect(tokens.scope).toBe('tokens:read');
    expect(tokens.refresh_token).toBeTruthy();
    expect((await me(String(tokens.access_token))).status).toBe(200);
    const refreshed = await postForm(
      harness.url,
      { grant_type: 'refresh_token', refresh_token: String(tokens.refresh_token) },
      { authorization: `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString('base64')}` },
    );
    const later = (await refreshed.json()) as Record<string, string>;
    // Each knows when its user signed in, so that a sign-out everywhere ends it.
    const { auth_time } = decodeJwt(String(tokens.access_token));
    expect(auth_time).toBeTypeOf('number');
    expect(decodeJwt(String(later.access_token)).auth_time).toBe(auth_time);
  });

  it('gives nothing to a client without a scope', async () => {
    const user = await person();
    const client = await harness.build.client([], ['authorization_code'], ['https://app.example/cb']);
    const request = authorizationRequest(harness, {
      client_id: client.id,
      redirect_uri: 'https://app.example/cb',
    });
    const { callback } = await signIn(harness, createBrowser(harness), user, request);
    expect(callback.searchParams.get('error')).toBe('access_denied');
  });

  it('never leads to a host that a request names', async () => {
    const target = authorizationRequest(harness).url.replace(harness.issuer, 'http://evil.example');
    const location = await new Promise<string | undefined>((resolve, reject) => {
      const { port } = new URL(harness.url);
      httpRequest(
        { host: '127.0.0.1', port, path: target, headers: { host: 'evil.example' } },
        (response) => {
          response.resume();
          resolve(response.headers.location);
        },
      )
        .once('error', reject)
        .end();
    });
    expect(location).toMatch(/^\/oauth\/sign-in\//);
    const { rows } = await harness.database.knex.raw(
      "SELECT payload FROM oidc_artifacts WHERE kind = 'Interaction' ORDER BY expires_at DESC LIMIT 1",
    );
    expect(await harness.sealer.open(rows[0].payload, 'Interaction')).not.toContain('evil');
  });
});

describe('a user who was deactivated', () => {
  const deactivate = (id: string) => harness.stores.users.update(id, { status: 'inactive' });

  it('is asked to sign in again, and login_required without interaction', async () => {
    const user = await person();
    const browser = createBrowser(harness);
    const { code, verifier } = await signIn(harness, browser, user);
    const token = await accessToken(code, verifier);
    await deactivate(user.id);
    expect((await me(token)).status).toBe(401);
    const silent = await browser.get(authorizationRequest(harness, { prompt: 'none' }).url);
    expect(silent.location?.searchParams.get('error')).toBe('login_required');
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    expect((await browser.post(url, { email: user.email, password })).status).toBe(422);
  });

  it('gets nothing for a code from before', async () => {
    const user = await person();
    const { code, verifier } = await signIn(harness, createBrowser(harness), user);
    await deactivate(user.id);
    const response = await redeem(code, verifier);
    expect([response.status, ((await response.json()) as { error: string }).error]).toEqual([
      400,
      'invalid_grant',
    ]);
  });

  it('between the form and the redirect is back at the form', async () => {
    const user = await person();
    const browser = createBrowser(harness);
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    const accepted = await browser.post(url, { email: user.email, password });
    await deactivate(user.id);
    const resumed = await browser.get(String(accepted.location));
    expect(resumed.location?.pathname).toMatch(/^\/oauth\/sign-in\//);
  });

  it('leaves the browser to the next, whose sign-in ends what was there', async () => {
    const first = await person();
    const second = await person();
    const browser = createBrowser(harness);
    const before = await signIn(harness, browser, first);
    const firstToken = await accessToken(before.code, before.verifier);
    const after = await signIn(harness, browser, second, authorizationRequest(harness, { prompt: 'login' }));
    const secondToken = await accessToken(after.code, after.verifier);
    expect((await me(firstToken)).status).toBe(401);
    expect((await me(secondToken)).body.id).toBe(second.id);
  });
});

describe('sessions, codes and access tokens from before', () => {
  // All of it in a second or two, in which the library's sessions begin.
  it.each([
    ['a new password', [{ password: 'another good password' }]],
    ['a deactivation in between', [{ status: 'inactive' }, { status: 'active' }]],
    ['a second new password', [{ password: 'another good password' }], { password: 'a third good password' }],
  ])('are ended by %s', async (_what, changes: Record<string, string>[], second?: Record<string, string>) => {
    let user = await person();
    if (second) {
      await change(user.id, second);
      user = { ...user, ...second };
    }
    const browser = createBrowser(harness);
    const taken = await signIn(harness, browser, user);
    const token = await accessToken(taken.code, taken.verifier);
    expect((await me(token)).status).toBe(200);
    const request = authorizationRequest(harness, { prompt: 'none' });
    const code = String((await browser.get(request.url)).location?.searchParams.get('code'));
    for (const one of changes) await change(user.id, one);
    expect((await me(token)).status).toBe(401);
    const silent = await browser.get(authorizationRequest(harness, { prompt: 'none' }).url);
    expect(silent.location?.searchParams.get('error')).toBe('login_required');
    expect((await redeem(code, request.verifier)).status).toBe(400);

    const again = await signIn(harness, browser, { ...user, ...changes[0] });
    expect((await me(await accessToken(again.code, again.verifier))).status).toBe(200);
  });

  it('are ended by each of two sign-outs in one second, and a sign-in between them too', async () => {
    const user = await person();
    const { users } = harness.stores;
    const signOut = async () => {
      await users.update(user.id, { signsOut: true });
      return (await users.findWithSignOut(user.id))?.signedOutAt as Date;
    };
    const first = await signOut();
    const began = authTimeOf(first, first);
    const second = await signOut();
    expect(second.getTime() - first.getTime()).toBeGreaterThanOrEqual(1_000);
    expect(endedBySignOut(began, first)).toBe(false);
    expect(endedBySignOut(began, second)).toBe(true);
  });

  it('are none of a sign-in by the old password that is under way', async () => {
    const user = await person();
    const browser = createBrowser(harness);
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    const { users } = harness.stores;
    let sent: Promise<Answer> | undefined;
    await harness.database.knex.transaction(async (tx) => {
      await users.lock(user.id, tx);
      sent = browser.post(url, { email: user.email, password });
      const waits = 'SELECT FROM pg_stat_activity WHERE wait_event_type = ? AND datname = current_database()';
      await expect.poll(async () => (await harness.database.knex.raw(waits, ['Lock'])).rows.length).toBe(1);
      await users.update(user.id, { passwordHash: await hashPassword('another good password') }, tx);
    });
    expect((await sent)?.status).toBe(422);
    const [event] = await harness.database.knex('audit_events').where({ target_id: user.id });
    expect(event).toMatchObject({ action: 'user.sign_in_failed', reason: 'changed meanwhile' });
  });

  async function change(id: string, body: Record<string, string>): Promise<void> {
    const changed = await fetch(`${harness.url}/admin/users/${id}`, {
      method: 'PATCH',
      headers: {
        authorization: `Bearer ${await harness.build.machineJwt()}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify(body),
    });
    expect(changed.status).toBe(200);
  }
});

describe('a code', () => {
  it('redeemed several times at once gives one success, and that is worth nothing afterwards', async () => {
    const { code, verifier } = await signIn(harness, createBrowser(harness), await person());
    const responses = await Promise.all(Array.from({ length: 8 }, () => redeem(code, verifier)));
    const answers = await Promise.all(
      responses.map(async (response) => (await response.json()) as Record<string, string>),
    );
    const won = answers.filter(({ access_token }) => access_token);
    expect(won).toHaveLength(1);
    for (const { error } of answers.filter((answer) => !won.includes(answer)))
      expect(error).toBe('invalid_grant');
    expect((await me(String(won[0]?.access_token))).status).toBe(401);
  });

  it('redeemed again later ends what it gave; signing in silently gives anew', async () => {
    const browser = createBrowser(harness);
    const { code, verifier } = await signIn(harness, browser, await person());
    const token = await accessToken(code, verifier);
    expect((await me(token)).status).toBe(200);
    expect((await redeem(code, verifier)).status).toBe(400);
    expect((await me(token)).status).toBe(401);
    const request = authorizationRequest(harness, { prompt: 'none' });
    const { location } = await browser.get(request.url);
    const again = await accessToken(String(location?.searchParams.get('code')), request.verifier);
    expect((await me(again)).status).toBe(200);
  });

  it.each([
    ['without its verifier', { code_verifier: '' }],
    ['with another verifier', { code_verifier: 'x'.repeat(43) }],
    ['by another client', { client_id: 'platform-tokens' }],
    ['for another redirect_uri', { redirect_uri: 'http://issuer.test/dashboard' }],
    ['that is made up', { code: 'x'.repeat(43) }],
  ])('%s gives nothing', async (_how, change) => {
    const { code, verifier } = await signIn(harness, createBrowser(harness), await person());
    const response = await postForm(harness.url, {
      grant_type: 'authorization_code',
      client_id: 'dashboard',
      redirect_uri: `${harness.issuer}/dashboard/callback`,
      code,
      code_verifier: verifier,
      ...change,
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toHaveProperty('error');
  });
});
