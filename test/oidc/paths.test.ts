import { request } from 'node:http';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createHarness, exchangeGrant, type Harness } from '../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(() => harness.close());

it.each(['/oauth/token/', '/OAUTH/TOKEN', '/oauth/Token', '/oauth//token'])(
  'answers no other spelling of the token endpoint: %s',
  async (path) => {
    const { token } = await harness.build.platformToken();
    const body = new URLSearchParams({
      grant_type: exchangeGrant,
      subject_token: token,
      client_id: 'platform-tokens',
    });
    const response = await fetch(harness.url + path, { method: 'POST', body });
    expect(response.status).toBe(404);
  },
);

it('answers every other route in one spelling only', async () => {
  const document = (await (await fetch(`${harness.url}/admin/openapi.json`)).json()) as {
    paths: Record<string, Record<string, unknown>>;
  };
  const admin = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => ({
      method: method.toUpperCase(),
      path: path.replace(/\{\w+\}/g, uuidv7()),
      wanted: 401,
    })),
  );
  const open = [
    '/health/live',
    '/health/ready',
    '/oauth/jwks',
    '/.well-known/openid-configuration',
    '/.well-known/oauth-authorization-server',
    '/.well-known/oauth-protected-resource/admin',
    '/admin/openapi.json',
    '/problems/token-limit-reached',
  ].map((path) => ({ method: 'GET', path, wanted: 200 }));
  const status = async (method: string, path: string) => {
    const response = await fetch(harness.url + path, { method });
    await response.body?.cancel();
    return response.status;
  };
  const forms = ['/oauth/introspect', '/oauth/revoke', '/leaks/github'].map((path) => ({
    method: 'POST',
    path,
    wanted: 400,
  }));
  for (const { method, path, wanted } of [...admin, ...open, ...forms]) {
    expect([method, path, await status(method, path)]).toEqual([method, path, wanted]);
    const capital = path.replace(/[a-z]/, (letter) => letter.toUpperCase());
    const encoded = path.replace(/[a-z]/, (letter) => `%${letter.charCodeAt(0).toString(16)}`);
    for (const other of [
      path.toUpperCase(),
      capital,
      encoded,
      `${path}/`,
      `/${path}`,
      path.replace(/\//g, '//'),
    ]) {
      expect([method, other, await status(method, other)]).toEqual([method, other, 404]);
    }
  }
});

it.each([
  ['TRACE', '/oauth/jwks', 405],
  ['PROPFIND', '/admin/tokens', 405],
  ['DELETE', '/health/live', 405],
  ['POST', '/problems/token-limit-reached', 405],
  ['TRACE', '/oauth/token', 405],
  ['TRACE', '/oauth/introspect', 405],
  ['PROPFIND', '/oauth/revoke', 405],
  ['TRACE', '/leaks/github', 405],
  ['TRACE', '/nothing', 404],
  ['PROPFIND', '/oauth/authorize/x', 405],
  ['POST', '/oauth/authorize', 405],
  ['OPTIONS', '/oauth/logout', 405],
  ['GET', '/oauth/logout/confirm', 405],
])('%s on %s is %d, not a fault of the server', async (method, path, wanted) => {
  const { status, allow } = await new Promise<{ status: number | undefined; allow: string | undefined }>(
    (resolve, reject) => {
      const sent = request(harness.url + path, { method, agent: false }, (response) => {
        response.resume();
        resolve({ status: response.statusCode, allow: response.headers.allow });
      });
      sent.once('error', reject).end();
    },
  );
  expect(status).toBe(wanted);
  expect(Boolean(allow)).toBe(wanted === 405);
});
