import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { authorizationRequest, createBrowser, followToClient, openSignIn } from '../support/browser.ts';
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

const password = 'a good long password';
const person = async () => {
  const organization = await harness.build.organization();
  return harness.build.user({ organizationId: organization.id, password });
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

describe('the walk', () => {
  it('leads from the authorization request to an access token that opens the admin API', async () => {
    const user = await person();
    const browser = createBrowser(harness);
    const request = authorizationRequest(harness);
    const { url, page } = await openSignIn(browser, request);
    expect(page.status).toBe(200);
    expect(page.text).toContain('name="email"');
    expect(page.text).toContain('name="password"');

    const refused = await browser.post(url, { email: user.email, password: 'not the password' });
    expect(refused.status).toBe(422);
    expect(refused.text).toMatch(/role="alert"/);
    expect(refused.text).toContain(user.email);

    const accepted = await browser.post(url, { email: user.email, password });
    expect(accepted.status).toBe(303);
    const callback = await followToClient(browser, accepted, harness);
    expect(callback.href).toMatch(`${harness.issuer}/dashboard/callback?`);
    expect(callback.searchParams.get('state')).toBe('a-state');
    expect(callback.searchParams.get('iss')).toBe(harness.issuer);

    const response = await redeem(String(callback.searchParams.get('code')), request.verifier);
    expect(response.status).toBe(200);
    const tokens = (await response.json()) as Record<string, string>;
    expect(tokens).toMatchObject({ token_type: 'Bearer', expires_in: 600 });
    expect(tokens.scope?.split(' ').sort()).toEqual(['tokens:read', 'tokens:write']);
    expect(decodeJwt(String(tokens.id_token))).toMatchObject({ sub: user.id, aud: 'dashboard' });
    expect(tokens.refresh_token).toBeUndefined();

    const me = await fetch(`${harness.url}/admin/me`, {
      headers: { authorization: `Bearer ${tokens.access_token}` },
    });
    expect([me.status, ((await me.json()) as { id: string }).id]).toEqual([200, user.id]);
  });
});
