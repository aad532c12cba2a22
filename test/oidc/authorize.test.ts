import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { authorizationRequest, createBrowser } from '../support/browser.ts';
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
    ['without a scope', { scope: undefined }, 'invalid_scope'],
    ['with a scope that nobody knows', { scope: 'foo' }, 'invalid_scope'],
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

  it('that cannot be answered is a page for a person, without anything of the request', async () => {
    const browser = createBrowser(harness);
    const { url } = authorizationRequest(harness, { client_id: 'nobody', state: 'zq<b>x', scope: 'zq<b>y' });
    const answer = await browser.get(url);
    expect(answer.status).toBe(400);
    expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(answer.headers.get('content-security-policy')).toMatch(/^default-src 'none'; style-src 'sha256-/);
    expect(answer.text).toContain('<code>invalid_client</code>');
    expect(answer.text).not.toMatch(/zq|nobody/);
    const program = await browser.get(url, { accept: 'application/json' });
    expect(Object.keys(JSON.parse(program.text))).toEqual(['error', 'error_description']);
    expect(program.text).not.toMatch(/zq|nobody/);
  });

  it('answered by form_post names the one script of the answer in the policy', async () => {
    const { url } = authorizationRequest(harness, { response_mode: 'form_post', prompt: 'none' });
    const { headers, text } = await createBrowser(harness).get(url);
    const script = /<script>(.*?)<\/script>/s.exec(text)?.[1] ?? '';
    const digest = createHash('sha256').update(script).digest('base64');
    expect(headers.get('content-security-policy')).toContain(`script-src 'sha256-${digest}'`);
    expect(text).toContain('value="login_required"');
  });

  // What no parameter is, in every one of them.
  const odd = [
    '',
    '\0',
    '%',
    '"><b>zq',
    'z'.repeat(3000),
    '\u{1F600}',
    '-1',
    '__proto__',
    'a.b.c',
    'none login',
    'jwt',
  ];
  const parameters = [
    ...[
      'client_id',
      'response_type',
      'redirect_uri',
      'scope',
      'state',
      'code_challenge',
      'code_challenge_method',
    ],
    ...[
      'nonce',
      'prompt',
      'max_age',
      'resource',
      'response_mode',
      'login_hint',
      'id_token_hint',
      'ui_locales',
    ],
    ...[
      'acr_values',
      'claims',
      'request',
      'request_uri',
      'registration',
      'authorization_details',
      'dpop_jkt',
    ],
  ];
  it.each(parameters)(
    'with an odd or repeated %s is no fault of the server, and leads to no stranger',
    async (name) => {
      const browser = createBrowser(harness);
      for (const value of odd) {
        const replaced = authorizationRequest(harness, { [name]: value }).url;
        const repeated = `${authorizationRequest(harness).url}&${name}=${encodeURIComponent(value)}`;
        for (const url of [replaced, repeated]) {
          const { status, location, text } = await browser.get(url);
          expect([status < 500, status, url]).toEqual([true, status, url]);
          if (location) expect(location.origin).toBe(harness.issuer);
          expect(text).not.toContain('<b>zq');
        }
      }
    },
  );

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
