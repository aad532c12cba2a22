import { decodeJwt, decodeProtectedHeader } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPlatformToken } from '../../server/domain/platform-token.ts';
import { basic, createHarness, exchange, exchangeGrant, type Harness, postForm } from '../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(async () => {
  const logs = harness.logs();
  await harness.close();
  expect(logs).toContain('"status":401');
  expect(logs).not.toMatch(/"status":500|unexpected error/);
});

const grant = { grant_type: 'client_credentials' };

async function refusal(response: Response | Promise<Response>) {
  const answer = await response;
  const body = (await answer.json()) as Record<string, unknown>;
  expect(body).not.toHaveProperty('access_token');
  expect(body.error_description).toBeTypeOf('string');
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect(answer.headers.get('pragma')).toBe('no-cache');
  // RFC 6749 §5.2: a 401 names the scheme.
  if (answer.status === 401) expect(answer.headers.get('www-authenticate')).toMatch(/^Basic realm=/);
  return [answer.status, body.error];
}

async function success(response: Response | Promise<Response>) {
  const answer = await response;
  const body = (await answer.json()) as Record<string, unknown>;
  expect(body).not.toHaveProperty('error');
  expect(answer.status).toBe(200);
  expect(answer.headers.get('cache-control')).toBe('no-store');
  return body as { access_token: string; scope: string; expires_in: number };
}

describe('Bearer credentials', () => {
  it.each(['Bearer', 'bearer', 'BEARER'])('equal to the subject token are ignored (%s)', async (scheme) => {
    const { token } = await harness.build.platformToken();
    const { access_token } = await success(
      exchange(harness.url, token, {}, { authorization: `${scheme} ${token}` }),
    );
    expect(decodeJwt(access_token).client_id).toBe('platform-tokens');
  });

  it('different from the subject token are refused, even if both are good', async () => {
    const one = await harness.build.platformToken();
    const other = await harness.build.platformToken();
    for (const bearer of [other.token, `${one.token}x`, createPlatformToken('ptk').token, 'x']) {
      const response = exchange(harness.url, one.token, {}, { authorization: `Bearer ${bearer}` });
      expect(await refusal(response)).toEqual([400, 'invalid_request']);
    }
  });

  it('do not stand in for the subject token', async () => {
    const { token } = await harness.build.platformToken();
    const response = postForm(
      harness.url,
      { grant_type: exchangeGrant },
      { authorization: `Bearer ${token}` },
    );
    expect(await refusal(response)).toEqual([400, 'invalid_request']);
  });

  it.each(['client_credentials', 'authorization_code', 'refresh_token'])(
    'authenticate no client for %s',
    async (grant_type) => {
      const { token } = await harness.build.platformToken();
      const { id } = await harness.build.client(['admin']);
      const headers = { authorization: `Bearer ${token}` };
      const form = { grant_type, subject_token: token };
      expect(await refusal(postForm(harness.url, form, headers))).toEqual([401, 'invalid_client']);
      expect(await refusal(postForm(harness.url, { ...form, client_id: id }, headers))).toEqual([
        401,
        'invalid_client',
      ]);
    },
  );
});

describe('credentials that are sent with an exchange', () => {
  it('are checked, and a client with the grant exchanges under its own name', async () => {
    const { token, service } = await harness.build.platformToken();
    const { id, secret } = await harness.build.client([], [exchangeGrant]);
    for (const answer of [
      exchange(harness.url, token, {}, basic(id, secret)),
      exchange(harness.url, token, { client_id: id }, basic(id, secret)),
      exchange(harness.url, token, { client_id: id, client_secret: secret }),
    ]) {
      const claims = decodeJwt((await success(answer)).access_token);
      expect([claims.client_id, claims.aud]).toEqual([id, service.audience]);
    }
  });

  it('of a confidential client without the grant are unauthorized_client', async () => {
    const { token } = await harness.build.platformToken();
    const { id, secret } = await harness.build.client(['admin']);
    expect(await refusal(exchange(harness.url, token, {}, basic(id, secret)))).toEqual([
      400,
      'unauthorized_client',
    ]);
    expect(await refusal(exchange(harness.url, token, { client_id: id, client_secret: secret }))).toEqual([
      400,
      'unauthorized_client',
    ]);
  });

  it.each([
    ['a wrong secret', () => basic('CLIENT', 'wrong')],
    ['an unknown client', () => basic('nobody', 'SECRET')],
    ['an empty secret', () => basic('CLIENT', '')],
    ['an empty id', () => basic('', 'SECRET')],
    ['the platform token as the user name', () => basic('TOKEN', '')],
    ['the platform token as the password', () => basic('token', 'TOKEN')],
    [
      'the platform token alone',
      () => ({ authorization: `Basic ${Buffer.from('TOKEN').toString('base64')}` }),
    ],
    ['the raw platform token', () => ({ authorization: 'Basic TOKEN' })],
    ['no base64', () => ({ authorization: 'Basic §§§'.replaceAll('§', '!') })],
    ['nothing after the scheme', () => ({ authorization: 'Basic' })],
    [
      'broken percent-encoding',
      () => ({ authorization: `Basic ${Buffer.from('a%zz:b').toString('base64')}` }),
    ],
    ['control characters', () => ({ authorization: `Basic ${Buffer.from('a\0:b\n').toString('base64')}` })],
    [
      'bytes that are no UTF-8',
      () => ({ authorization: `Basic ${Buffer.from([255, 58, 254]).toString('base64')}` }),
    ],
    ['another scheme', () => ({ authorization: 'Digest username="x"' })],
    ['Bearer and nothing', () => ({ authorization: 'Bearer' })],
    ['the token without a scheme', () => ({ authorization: 'TOKEN' })],
    ['the anonymous client with a secret', () => basic('platform-tokens', 'secret')],
  ])('and are no good are invalid_client, never an anonymous exchange: %s', async (_name, make) => {
    const { token } = await harness.build.platformToken();
    const { id, secret } = await harness.build.client(['admin'], ['client_credentials', exchangeGrant]);
    const fill = (text: string) =>
      text.replaceAll('TOKEN', token).replaceAll('CLIENT', id).replaceAll('SECRET', secret);
    const { authorization } = make();
    const encoded = /^Basic ([A-Za-z0-9+/=]+)$/.exec(authorization)?.[1];
    const decoded = encoded && encoded !== 'TOKEN' ? Buffer.from(encoded, 'base64') : undefined;
    const printable = decoded && /^[\x20-\x7e]+$/.test(decoded.toString('latin1'));
    const header = printable
      ? `Basic ${Buffer.from(fill(decoded.toString())).toString('base64')}`
      : fill(authorization);
    const response = exchange(harness.url, token, {}, { authorization: header });
    expect(await refusal(response)).toEqual([401, 'invalid_client']);
  });

  it.each([
    ['a secret without a client', { client_secret: 'x' }],
    ['an unknown client', { client_id: 'nobody' }],
    ['an unknown client and a secret', { client_id: 'nobody', client_secret: 'x' }],
    ['a client id with spaces', { client_id: 'platform-tokens ' }],
    ['the anonymous client with a secret', { client_id: 'platform-tokens', client_secret: 'x' }],
    ['a client assertion', { client_id: 'platform-tokens', client_assertion: 'x' }],
    ['a client assertion alone', { client_assertion: 'x', client_assertion_type: 'y' }],
  ])('in the body and no good are invalid_client: %s', async (_name, credentials) => {
    const { token } = await harness.build.platformToken();
    const response = exchange(harness.url, token, credentials as unknown as Record<string, string>);
    expect(await refusal(response)).toEqual([401, 'invalid_client']);
  });

  it('lack the secret: a confidential client by its id alone is invalid_client', async () => {
    const { token } = await harness.build.platformToken();
    const { id } = await harness.build.client([], [exchangeGrant]);
    expect(await refusal(exchange(harness.url, token, { client_id: id }))).toEqual([401, 'invalid_client']);
    expect(await refusal(exchange(harness.url, token, { client_id: id, client_secret: 'wrong' }))).toEqual([
      401,
      'invalid_client',
    ]);
  });

  it('name the anonymous client: that is the anonymous exchange', async () => {
    const { token } = await harness.build.platformToken();
    const { access_token } = await success(exchange(harness.url, token, { client_id: 'platform-tokens' }));
    expect(decodeJwt(access_token).client_id).toBe('platform-tokens');
  });

  it('name the dashboard: it may not exchange', async () => {
    const { token } = await harness.build.platformToken();
    expect(await refusal(exchange(harness.url, token, { client_id: 'dashboard' }))).toEqual([
      400,
      'unauthorized_client',
    ]);
  });

  it('are two sets: refused', async () => {
    const { token } = await harness.build.platformToken();
    const { id, secret } = await harness.build.client([], [exchangeGrant]);
    const both = exchange(harness.url, token, { client_id: id, client_secret: secret }, basic(id, secret));
    const [status, error] = await refusal(both);
    expect([
      [400, 'invalid_request'],
      [401, 'invalid_client'],
    ]).toContainEqual([status, error]);
    const mismatch = exchange(harness.url, token, { client_id: 'platform-tokens' }, basic(id, secret));
    const [mismatchStatus] = await refusal(mismatch);
    expect([400, 401]).toContain(mismatchStatus);
  });

  it.each(['client_id', 'client_secret'])('given twice are refused: %s', async (name) => {
    const { token } = await harness.build.platformToken();
    const { id, secret } = await harness.build.client([], [exchangeGrant]);
    const form = new URLSearchParams({
      grant_type: exchangeGrant,
      subject_token: token,
      client_id: id,
      client_secret: secret,
    });
    form.append(name, name === 'client_id' ? id : secret);
    expect(await refusal(postForm(harness.url, form.toString()))).toEqual([400, 'invalid_request']);
  });

  it('are told nothing of whether the subject token is good', async () => {
    const { token } = await harness.build.platformToken();
    const answers = await Promise.all(
      [token, createPlatformToken('ptk').token].map(async (text) =>
        (await exchange(harness.url, text, {}, basic('nobody', 'x'))).text(),
      ),
    );
    expect(answers[0]).toBe(answers[1]);
  });

  it('of a deleted client stop at once', async () => {
    const { token } = await harness.build.platformToken();
    const { id, secret } = await harness.build.client([], [exchangeGrant]);
    await success(exchange(harness.url, token, {}, basic(id, secret)));
    await harness.stores.clients.delete(id);
    expect(await refusal(exchange(harness.url, token, {}, basic(id, secret)))).toEqual([
      401,
      'invalid_client',
    ]);
  });
});

describe('client_credentials', () => {
  it.each([
    ['Basic', false],
    ['the body', true],
  ])('gives a machine administrator a token for the admin API, by %s', async (_name, inBody) => {
    const { id, secret } = await harness.build.client(['admin']);
    const credentials = inBody ? { client_id: id, client_secret: secret } : {};
    const headers = inBody ? {} : basic(id, secret);
    for (const more of [{ scope: 'admin' }, { scope: 'admin', resource: `${harness.issuer}/admin` }]) {
      const form = { ...grant, ...credentials, ...more } as unknown as Record<string, string>;
      const body = await success(postForm(harness.url, form, headers as Record<string, string>));
      expect(body).toMatchObject({ token_type: 'Bearer', expires_in: 3_600, scope: 'admin' });
      expect(body).not.toHaveProperty('refresh_token');
      expect(decodeProtectedHeader(body.access_token).typ).toBe('at+jwt');
      const claims = decodeJwt(body.access_token);
      expect(claims).toMatchObject({
        iss: harness.issuer,
        sub: id,
        client_id: id,
        aud: `${harness.issuer}/admin`,
        scope: 'admin',
      });
      expect(claims).not.toHaveProperty('token_id');
      const list = await fetch(`${harness.url}/admin/tokens`, {
        headers: { authorization: `Bearer ${body.access_token}` },
      });
      expect(list.status).toBe(200);
      await list.body?.cancel();
    }
  });

  it('form-decodes both halves of Basic credentials', async () => {
    const { id, secret } = await harness.build.client(['admin']);
    const hex = (text: string) => [...text].map((c) => `%${c.charCodeAt(0).toString(16)}`).join('');
    const encoded = Buffer.from(`${hex(id)}:${hex(secret)}`).toString('base64');
    const form = { ...grant, scope: 'admin' };
    await success(postForm(harness.url, form, { authorization: `Basic ${encoded}` }));
    // RFC 9110 §11.4: any number of spaces.
    await success(postForm(harness.url, form, { authorization: `basic   ${encoded}` }));
  });

  it('refuses a request without a scope: a token for nothing would hide the mistake', async () => {
    const { id, secret } = await harness.build.client(['admin']);
    expect(await refusal(postForm(harness.url, grant, basic(id, secret)))).toEqual([400, 'invalid_scope']);
  });

  it.each(['admin', 'tokens:read', 'introspect', 'openid', 'admin tokens:write'])(
    'gives a client without scopes none: %s',
    async (scope) => {
      const { id, secret } = await harness.build.client([]);
      const response = postForm(harness.url, { ...grant, scope }, basic(id, secret));
      expect(await refusal(response)).toEqual([400, 'invalid_scope']);
    },
  );

  it.each(['tokens:read', 'admin tokens:write', 'openid', 'introspect', 'marker', 'admin marker'])(
    'refuses the scope %j, which the client does not have',
    async (scope) => {
      const { id, secret } = await harness.build.client(['admin']);
      const response = postForm(harness.url, { ...grant, scope }, basic(id, secret));
      expect(await refusal(response)).toEqual([400, 'invalid_scope']);
    },
  );

  it('refuses the scope admin to a client without it', async () => {
    const { id, secret } = await harness.build.client(['introspect']);
    const response = postForm(harness.url, { ...grant, scope: 'admin' }, basic(id, secret));
    expect(await refusal(response)).toEqual([400, 'invalid_scope']);
  });

  it.each(['https://elsewhere.example.com', 'http://issuer.test/admin/', 'no uri'])(
    'refuses the resource %s',
    async (resource) => {
      const { id, secret } = await harness.build.client(['admin']);
      const response = postForm(harness.url, { ...grant, resource }, basic(id, secret));
      expect(await refusal(response)).toEqual([400, 'invalid_target']);
    },
  );

  it('refuses the audience of a product service as its resource', async () => {
    const { id, secret } = await harness.build.client(['admin']);
    const { audience } = await harness.build.service();
    const response = postForm(harness.url, { ...grant, resource: audience }, basic(id, secret));
    expect(await refusal(response)).toEqual([400, 'invalid_target']);
  });

  it('without authentication is invalid_client', async () => {
    const { id } = await harness.build.client(['admin']);
    expect(await refusal(postForm(harness.url, grant))).toEqual([401, 'invalid_client']);
    expect(await refusal(postForm(harness.url, { ...grant, client_id: id }))).toEqual([
      401,
      'invalid_client',
    ]);
    expect(await refusal(postForm(harness.url, grant, basic(id, 'wrong')))).toEqual([401, 'invalid_client']);
  });

  it('is not for the public clients', async () => {
    for (const client_id of ['platform-tokens', 'dashboard']) {
      const response = postForm(harness.url, { ...grant, client_id, scope: 'admin' });
      expect(await refusal(response)).toEqual([400, 'unauthorized_client']);
    }
  });

  it('is not for a client without the grant', async () => {
    const { id, secret } = await harness.build.client(['admin'], [exchangeGrant]);
    expect(await refusal(postForm(harness.url, grant, basic(id, secret)))).toEqual([
      400,
      'unauthorized_client',
    ]);
  });
});

describe('an Origin header', () => {
  it('changes nothing: not the answer, not its headers', async () => {
    const { token } = await harness.build.platformToken();
    for (const origin of ['https://evil.example', harness.issuer, 'null', token, '<script>']) {
      const response = await exchange(harness.url, token, {}, { origin });
      expect(response.status).toBe(200);
      expect([...response.headers.keys()].filter((name) => /^access-control|^vary$/.test(name))).toEqual([]);
      await response.body?.cancel();
    }
  });

  it('does not come before client authentication', async () => {
    const { id } = await harness.build.client(['admin']);
    for (const client_id of [id, 'nobody']) {
      const form = { grant_type: 'refresh_token', refresh_token: 'x', client_id, client_secret: 'wrong' };
      const response = postForm(harness.url, form, { origin: 'https://evil.example' });
      expect(await refusal(response)).toEqual([401, 'invalid_client']);
    }
  });
});
