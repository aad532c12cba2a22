import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHarness, type Harness } from '../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(async () => {
  const logs = harness.logs();
  await harness.close();
  expect(logs).not.toMatch(/"status":500|unexpected error/);
});

const challenge = createHash('sha256').update(randomBytes(32).toString('base64url')).digest('base64url');

/** A good authorization request of the dashboard, with changes; `undefined` leaves a parameter out. */
function authorize(change: Record<string, string | undefined> = {}, more = ''): Promise<Response> {
  const parameters = {
    client_id: 'dashboard',
    response_type: 'code',
    redirect_uri: `${harness.issuer}/dashboard/callback`,
    scope: 'openid tokens:read tokens:write',
    state: 'a-state',
    code_challenge: challenge,
    code_challenge_method: 'S256',
    ...change,
  };
  const query = new URLSearchParams(
    Object.entries(parameters).filter((pair): pair is [string, string] => pair[1] !== undefined),
  );
  return fetch(`${harness.url}/oauth/authorize?${query}${more}`, { redirect: 'manual' });
}

describe('an authorization request', () => {
  it.each([
    ['an unknown client', { client_id: 'nobody' }],
    ['no client', { client_id: undefined }],
    ['a client without the grant', { client_id: 'platform-tokens' }],
    ['a foreign redirect_uri', { redirect_uri: 'https://evil.example/cb' }],
    ['a redirect_uri below ours', { redirect_uri: 'http://issuer.test/dashboard/callback/x' }],
    ['a redirect_uri with a query', { redirect_uri: 'http://issuer.test/dashboard/callback?x=1' }],
  ])('of %s is refused here, never redirected', async (_what, change) => {
    const response = await authorize(change);
    expect(response.status).toBe(400);
    expect(response.headers.get('location')).toBeNull();
    const text = await response.text();
    expect(text).not.toContain('evil');
    expect(JSON.parse(text)).toHaveProperty('error');
  });

  it.each([
    ['without PKCE', { code_challenge: undefined, code_challenge_method: undefined }, 'invalid_request'],
    ['with plain PKCE', { code_challenge_method: 'plain' }, 'invalid_request'],
    ['for an implicit token', { response_type: 'token' }, 'unsupported_response_type'],
    ['for another resource', { resource: 'https://elsewhere.example' }, 'invalid_target'],
    ['without interaction, signed out', { prompt: 'none' }, 'login_required'],
    ['with a request object', { request: 'eyJhbGciOiJub25lIn0.e30.' }, 'request_not_supported'],
  ])('%s is told to the client: %s', async (_how, change, error) => {
    const response = await authorize(change);
    const location = new URL(String(response.headers.get('location')));
    expect([response.status, location.origin + location.pathname]).toEqual([
      303,
      `${harness.issuer}/dashboard/callback`,
    ]);
    const told = new URLSearchParams(location.search || location.hash.slice(1));
    expect([told.get('error'), told.get('state')]).toEqual([error, 'a-state']);
  });

  it.each(['&client_id=dashboard', '&state=x', '&scope=%00', '&x=%ff', `&y=${'z'.repeat(5000)}`])(
    'with %.20s is no fault of the server',
    async (more) => {
      const response = await authorize({}, more);
      expect(response.status).toBeLessThan(500);
      await response.body?.cancel();
    },
  );

  it('leads to the sign-in page, by a cookie that scripts cannot read', async () => {
    const response = await authorize();
    expect(response.status).toBe(303);
    expect(response.headers.get('location')).toMatch(/^\/oauth\/sign-in\/[\w-]{43}$/);
    const cookies = response.headers.getSetCookie();
    expect(cookies.map((cookie) => cookie.split('=')[0])).toContain('pt_interaction');
    for (const cookie of cookies) expect(cookie).toMatch(/; samesite=lax/i);
    for (const cookie of cookies) expect(cookie).toMatch(/; httponly/i);
  });
});

it('what has expired is swept whole, in batches', async () => {
  for (let n = 0; n < 5; n += 1) await (await authorize()).body?.cancel();
  const later = new Date(Date.now() + 24 * 60 * 60 * 1000);
  expect(await harness.stores.artifacts.deleteExpired(later, 2)).toBeGreaterThanOrEqual(5);
  expect(await harness.database.knex('oidc_artifacts').count()).toEqual([{ count: '0' }]);
});
