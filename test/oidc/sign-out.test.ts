import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
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

async function signedIn() {
  const user = await harness.build.user({ password });
  const browser = createBrowser(harness);
  const { code, verifier } = await signIn(harness, browser, { email: user.email, password });
  const response = await postForm(harness.url, {
    grant_type: 'authorization_code',
    client_id: 'dashboard',
    redirect_uri: `${harness.issuer}/dashboard/callback`,
    code,
    code_verifier: verifier,
  });
  return { browser, tokens: (await response.json()) as { access_token: string; id_token: string } };
}

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
  const { browser, tokens } = await signedIn();
  const page = await browser.get(logout({ ...dashboard(), id_token_hint: tokens.id_token }));
  expect(page.status).toBe(200);
  expect(page.text).toMatch(
    /<form id="op\.logoutForm" method="post" action="[^"]*\/oauth\/logout\/confirm">/,
  );
  expect(page.text).toContain('<button form="op.logoutForm" name="logout" value="yes"');
  expect(page.text).not.toContain('<script');
  expect(page.headers.get('content-security-policy')).toMatch(/^default-src 'none'; style-src 'sha256-/);
  expect(await me(tokens.access_token)).toBe(200);

  const confirmed = await browser.post(`${harness.issuer}/oauth/logout/confirm`, {
    xsrf: xsrfOf(page.text),
    logout: 'yes',
  });
  expect(confirmed.status).toBe(303);
  expect(confirmed.location?.href).toBe(`${harness.issuer}/dashboard?state=a-state`);
  expect(browser.cookie('pt_session')).toBeUndefined();
  expect(await isSignedIn(browser)).toBe(false);
  expect(await me(tokens.access_token)).toBe(401);
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
