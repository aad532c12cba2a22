import { request } from 'node:http';
import { calculateJwkThumbprint } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHarness, type Harness } from '../support/harness.ts';

let plain: Harness;
let tenant: Harness;
let proxied: Harness;
beforeAll(async () => {
  plain = await createHarness();
  tenant = await createHarness({ env: { ISSUER: 'http://issuer.test/idm' } });
  proxied = await createHarness({ env: { TRUST_PROXY: 'true' } });
});
afterAll(async () => {
  const logs = [plain, tenant, proxied].map((harness) => harness.logs()).join('');
  await Promise.all([plain.close(), tenant.close(), proxied.close()]);
  expect(logs).toContain('"status":304');
  expect(logs).not.toMatch(/"status":500|unexpected error/);
});

const paths = [
  '/.well-known/openid-configuration',
  '/.well-known/oauth-authorization-server',
  '/.well-known/oauth-protected-resource/admin',
];

async function read(url: string) {
  const response = await fetch(url);
  return { response, body: (await response.json()) as Record<string, unknown> };
}

/** A GET with any Host: fetch would not send it. */
function rawGet(url: string, headers: Record<string, string>) {
  return new Promise<{ status: number; text: string }>((resolve, reject) => {
    request(url, { agent: false, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => {
        const text = JSON.stringify(response.headers) + Buffer.concat(chunks).toString();
        resolve({ status: response.statusCode ?? 0, text });
      });
    })
      .on('error', reject)
      .end();
  });
}

describe('authorization server metadata', () => {
  it.each(paths.slice(0, 2))('at %s names everything under the issuer', async (path) => {
    for (const { url, issuer } of [plain, tenant]) {
      const { response, body } = await read(url + path);
      expect(response.status).toBe(200);
      expect(response.headers.get('content-type')).toMatch(/^application\/json/);
      expect(body).toMatchObject({
        issuer,
        token_endpoint: `${issuer}/oauth/token`,
        jwks_uri: `${issuer}/oauth/jwks`,
        authorization_endpoint: `${issuer}/oauth/authorize`,
        code_challenge_methods_supported: ['S256'],
        response_types_supported: ['code'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['ES256'],
      });
      expect(body.grant_types_supported).toEqual([
        'urn:ietf:params:oauth:grant-type:token-exchange',
        'client_credentials',
        'authorization_code',
        'refresh_token',
      ]);
      for (const [name, value] of Object.entries(body)) {
        if (/_(endpoint|uri)$/.test(name)) expect(String(value).startsWith(`${issuer}/`), name).toBe(true);
      }
    }
  });

  it.each(paths)('answers in RFC 8414’s path-inserted form too: %s', async (path) => {
    const { origin } = new URL(tenant.url);
    const inserted = path.replace(/^(\/\.well-known\/[^/]+)/, '$1/idm');
    const [appended, other] = [await read(tenant.url + path), await read(origin + inserted)];
    expect(other.response.status).toBe(200);
    expect(other.body).toEqual(appended.body);
    const bare = await fetch(origin + path);
    expect(bare.status).toBe(404);
    await bare.body?.cancel();
  });

  it.each(['/a(b', '/a)b', '/a*b', '/:a', '/a+b', '/[a', '/a!', '/a.b', '/(a|b)'])(
    'takes an issuer’s path literally: %s',
    async (path) => {
      const harness = await createHarness({ env: { ISSUER: `http://issuer.test${path}` } });
      const { origin } = new URL(harness.url);
      const known = paths.map((known) => known.replace(/^(\/\.well-known\/[^/]+)/, `$1${path}`));
      const urls = [...known.map((known) => origin + known), ...paths.map((known) => harness.url + known)];
      for (const url of urls) expect([url, (await rawGet(url, {})).status]).toEqual([url, 200]);
      for (const other of known) {
        const url = origin + other.replace(path, '/abc');
        expect([url, (await rawGet(url, {})).status]).toEqual([url, 404]);
      }
      await harness.close();
    },
  );

  it('answers the path-inserted form to GET and HEAD only, in one spelling', async () => {
    const { origin } = new URL(tenant.url);
    const path = '/.well-known/oauth-authorization-server/idm';
    for (const [method, target, wanted] of [
      ['HEAD', path, 200],
      ['POST', path, 404],
      ['GET', `${path}/`, 404],
      ['GET', path.toUpperCase(), 404],
    ] as const) {
      const response = await fetch(origin + target, { method });
      expect([method, target, response.status]).toEqual([method, target, wanted]);
      await response.body?.cancel();
    }
  });

  it.each([
    'device_authorization_endpoint',
    'registration_endpoint',
    'pushed_authorization_request_endpoint',
    'backchannel_authentication_endpoint',
    'userinfo_endpoint',
    'dpop_signing_alg_values_supported',
    'request_object_signing_alg_values_supported',
    'check_session_iframe',
    'acr_values_supported',
    'tls_client_certificate_bound_access_tokens',
    'claims_supported_dev',
    'require_pushed_authorization_requests',
  ])('does not announce %s', async (name) => {
    for (const path of paths) expect((await read(plain.url + path)).body).not.toHaveProperty(name);
  });

  it.each([
    '/oauth/device',
    '/device',
    '/device/auth',
    '/reg',
    '/oauth/reg',
    '/request',
    '/me',
    '/backchannel',
    '/token',
    '/jwks',
  ])('nor serves the library’s %s', async (path) => {
    for (const method of ['GET', 'POST']) {
      const response = await fetch(plain.url + path, { method });
      expect([404, 405]).toContain(response.status);
      await response.body?.cancel();
    }
  });

  it('of the admin API names its resource and its authorization server', async () => {
    for (const { url, issuer } of [plain, tenant]) {
      const { body } = await read(url + paths[2]);
      expect(body).toMatchObject({
        resource: `${issuer}/admin`,
        authorization_servers: [issuer],
        bearer_methods_supported: ['header'],
      });
    }
  });
});

describe('forged addresses', () => {
  const forged = {
    host: 'evil.example',
    'x-forwarded-host': 'evil.example',
    'x-forwarded-proto': 'https',
    'x-forwarded-port': '666',
    'x-forwarded-prefix': '/evil',
    forwarded: 'host=evil.example;proto=https',
  };

  it.each([...paths, '/oauth/jwks'])('never appear in %s, behind a trusted proxy or not', async (path) => {
    for (const harness of [plain, proxied, tenant]) {
      const { status, text } = await rawGet(harness.url + path, forged);
      expect(status).toBe(200);
      expect(text).not.toContain('evil');
      expect(text).not.toContain(':666');
      expect(text).not.toContain('https://issuer.test');
      if (path !== '/oauth/jwks') expect(text).toContain('http://issuer.test');
    }
  });

  it('never appear in the challenge of the token endpoint or of the admin API', async () => {
    for (const path of ['/oauth/token', '/admin/tokens', '/nothing']) {
      const { status, text } = await rawGet(plain.url + path, forged);
      expect([401, 404, 405]).toContain(status);
      expect(text).not.toContain('evil');
    }
  });
});

describe('JWKS', () => {
  it('is cacheable, with a strong entity tag', async () => {
    const { response, body } = await read(`${plain.url}/oauth/jwks`);
    expect(response.status).toBe(200);
    expect(response.headers.get('cache-control')).toBe('public, max-age=300');
    expect(response.headers.get('etag')).toMatch(/^"[\w-]+"$/);
    expect(response.headers.get('content-type')).toMatch(/^application\/(jwk-set\+)?json/);
    expect(body.keys).toHaveLength(1);
  });

  it('holds public members only, and kid is the thumbprint', async () => {
    const { body } = await read(`${plain.url}/oauth/jwks`);
    const keys = body.keys as Record<string, string>[];
    for (const key of keys) {
      expect(Object.keys(key).sort()).toEqual(['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y']);
      expect(key).toMatchObject({ kty: 'EC', crv: 'P-256', alg: 'ES256', use: 'sig' });
      expect(key.kid).toBe(await calculateJwkThumbprint(key as never));
    }
  });

  it.each(['/oauth/jwks', ...paths])('%s answers 304 to its entity tag, and 200 to another', async (path) => {
    const { response } = await read(plain.url + path);
    const etag = response.headers.get('etag') ?? '';
    for (const value of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
      const again = await rawGet(plain.url + path, { 'if-none-match': value });
      expect([value, again.status]).toEqual([value, 304]);
      expect(again.text).toContain('max-age=300');
      expect(again.text.endsWith('}')).toBe(true);
    }
    expect((await rawGet(plain.url + path, { 'if-none-match': '"x"' })).status).toBe(200);
  });

  it('answers HEAD without a body and refuses POST', async () => {
    const head = await fetch(`${plain.url}/oauth/jwks`, { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([200, '']);
    expect(head.headers.get('etag')).toMatch(/^"/);
    const post = await fetch(`${plain.url}/oauth/jwks`, { method: 'POST' });
    expect(post.status).toBe(405);
    expect(post.headers.get('allow')).toContain('GET');
    await post.body?.cancel();
  });
});
