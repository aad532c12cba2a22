import { describe, expect, it } from 'vitest';
import {
  authorizationRequest,
  createBrowser,
  followToClient,
  openSignIn,
  signIn,
} from '../support/browser.ts';
import { createHarness, postForm } from '../support/harness.ts';

const password = 'a good long password';

describe.each([
  ['https://id.example.com', '/', '__Host-pt_session', '__Secure-pt_interaction'],
  ['https://eu.example.com/idm', '/idm', '__Secure-pt_session', '__Secure-pt_interaction'],
  ['http://issuer.test/idm', '/idm', 'pt_session', 'pt_interaction'],
])('with the issuer %s', (issuer, path, session, interaction) => {
  it('the walk stays below it, and so do the cookies', async () => {
    const harness = await createHarness({ env: { ISSUER: issuer } });
    try {
      const user = await harness.build.user({ password });
      const browser = createBrowser(harness);
      const request = authorizationRequest(harness);
      const started = await browser.get(request.url);
      const { url, page } = await openSignIn(browser, request);
      expect(url.href).toMatch(`${issuer}/oauth/sign-in/`);
      expect(page.text).toContain(`action="${url.pathname}"`);
      const accepted = await browser.post(
        url,
        { email: user.email, password },
        { origin: new URL(issuer).origin },
      );
      expect(accepted.location?.href).toMatch(`${issuer}/oauth/authorize/`);
      const resumed = await browser.get(String(accepted.location));
      expect(resumed.location?.href).toMatch(`${issuer}/dashboard/callback?`);

      const cookies = [started, accepted, resumed].flatMap(({ headers }) => headers.getSetCookie());
      const base = path === '/' ? '' : path;
      for (const cookie of cookies) {
        expect(cookie).toMatch(new RegExp(`; path=${base}(/|;|$)`));
        expect(/; secure/i.test(cookie)).toBe(issuer.startsWith('https:'));
        expect(cookie).toMatch(/; httponly/i);
      }
      expect(cookies.find((cookie) => cookie.startsWith(`${session}=`))).toContain(`; path=${path};`);
      expect(cookies.some((cookie) => cookie.startsWith(`${interaction}=`))).toBe(true);

      const response = await postForm(harness.url, {
        grant_type: 'authorization_code',
        client_id: 'dashboard',
        redirect_uri: `${issuer}/dashboard/callback`,
        code: String(resumed.location?.searchParams.get('code')),
        code_verifier: request.verifier,
      });
      const { access_token } = (await response.json()) as { access_token: string };
      const me = await fetch(`${harness.url}/admin/me`, {
        headers: { authorization: `Bearer ${access_token}` },
      });
      expect(me.status).toBe(200);

      const silent = await browser.get(authorizationRequest(harness, { prompt: 'none' }).url);
      expect(silent.location?.searchParams.has('code')).toBe(true);
      const question = await browser.get(`${issuer}/oauth/logout?client_id=dashboard`);
      expect(question.text).toContain(`action="${issuer}/oauth/logout/confirm"`);
    } finally {
      await harness.close();
    }
  });
});

it('a sign-in that began on one instance ends on another', async () => {
  const harness = await createHarness();
  const second = await harness.another();
  try {
    const user = await harness.build.user({ password });
    const browser = createBrowser(harness);
    const elsewhere = createBrowser({ url: second.url, issuer: harness.issuer });
    const { url } = await openSignIn(browser, authorizationRequest(harness));
    for (const [name, cookie] of browser.jar) elsewhere.jar.set(name, cookie);
    const accepted = await elsewhere.post(url, { email: user.email, password });
    const callback = await followToClient(elsewhere, accepted, harness);
    expect(callback.searchParams.has('code')).toBe(true);
    expect(await signIn(harness, createBrowser(harness), { email: user.email, password })).toHaveProperty(
      'code',
    );
  } finally {
    await second.close();
    await harness.close();
  }
});
