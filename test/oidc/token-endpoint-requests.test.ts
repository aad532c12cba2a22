import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHarness, exchange, exchangeGrant, type Harness, postForm } from '../support/harness.ts';

const formType = 'application/x-www-form-urlencoded';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(async () => {
  const logs = harness.logs();
  await harness.close();
  expect(logs).toContain('"status":400');
  expect(logs).not.toMatch(/"status":500|unexpected error/);
});

async function refusal(response: Response | Promise<Response>) {
  const answer = await response;
  const body = (await answer.json()) as Record<string, unknown>;
  expect(body).not.toHaveProperty('access_token');
  expect(body.error_description).toBeTypeOf('string');
  expect(answer.headers.get('content-type')).toBe('application/json; charset=utf-8');
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect(answer.headers.get('pragma')).toBe('no-cache');
  return [answer.status, body.error];
}

/** A request that fetch would not send. */
function raw(body: Buffer | readonly Buffer[], headers: Record<string, string> = {}) {
  return new Promise<{ status: number; body: Record<string, unknown> }>((resolve, reject) => {
    const sent = request(
      `${harness.url}/oauth/token`,
      { method: 'POST', agent: false, headers: { 'content-type': formType, ...headers } },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(Buffer.concat(chunks).toString()) });
        });
      },
    );
    sent.on('error', reject);
    if (Buffer.isBuffer(body)) return sent.end(body);
    for (const chunk of body) sent.write(chunk);
    sent.end();
  });
}

const encoded = (token: string) => `grant_type=${encodeURIComponent(exchangeGrant)}&subject_token=${token}`;

describe('grant_type', () => {
  it.each([
    'password',
    'implicit',
    'urn:ietf:params:oauth:grant-type:jwt-bearer',
    'urn:ietf:params:oauth:grant-type:device_code',
    'urn:openid:params:grant-type:ciba',
    'TOKEN-EXCHANGE',
    `${exchangeGrant} `,
    '__proto__',
    'constructor',
  ])('%j is not supported', async (grant_type) => {
    const { token } = await harness.build.platformToken();
    const response = postForm(harness.url, { grant_type, subject_token: token });
    expect(await refusal(response)).toEqual([400, 'unsupported_grant_type']);
  });

  it('missing, empty or misspelt is invalid_request', async () => {
    const { token } = await harness.build.platformToken();
    for (const form of [
      '',
      `subject_token=${token}`,
      `grant_type=&subject_token=${token}`,
      'Grant_Type=x',
      '&&=&',
    ]) {
      expect([form, await refusal(postForm(harness.url, form))]).toEqual([form, [400, 'invalid_request']]);
    }
  });

  it('without a client is invalid_client for the code flow', async () => {
    for (const form of [
      { grant_type: 'authorization_code', code: 'x', redirect_uri: 'http://x' },
      { grant_type: 'refresh_token', refresh_token: 'x' },
    ]) {
      expect(await refusal(postForm(harness.url, form as never))).toEqual([401, 'invalid_client']);
    }
  });
});

describe('parameters', () => {
  it.each([
    'grant_type',
    'subject_token',
    'subject_token_type',
    'requested_token_type',
    'scope',
    'client_id',
  ])('%s given twice is invalid_request', async (name) => {
    const { token } = await harness.build.platformToken();
    const values: Record<string, string> = {
      grant_type: exchangeGrant,
      subject_token: token,
      subject_token_type: 'urn:platform:params:oauth:token-type:api_token',
      requested_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      scope: 'read',
      client_id: 'platform-tokens',
    };
    const form = new URLSearchParams(values);
    form.append(name, values[name] ?? '');
    expect(await refusal(postForm(harness.url, form.toString()))).toEqual([400, 'invalid_request']);
  });

  it('without a value count as left out', async () => {
    const { token } = await harness.build.platformToken();
    const empty =
      '&scope=&resource=&audience=&subject_token_type=&requested_token_type&actor_token=&client_id=';
    const response = await postForm(harness.url, encoded(token) + empty);
    expect(response.status).toBe(200);
    await response.body?.cancel();
  });

  it('that are unknown are ignored, whatever their names', async () => {
    const { token } = await harness.build.platformToken();
    const response = await postForm(
      harness.url,
      `${encoded(token)}&x=1&__proto__=1&toString=1&constructor=2`,
    );
    expect(response.status).toBe(200);
    await response.body?.cancel();
  });

  it.each(['x=1&x=2', 'client_assertion_type=a&client_assertion_type=b', '__proto__=1&__proto__=2'])(
    'that are given twice are refused, known or not: %s',
    async (twice) => {
      const { token } = await harness.build.platformToken();
      const response = postForm(harness.url, `${encoded(token)}&${twice}`);
      expect(await refusal(response)).toEqual([400, 'invalid_request']);
    },
  );

  it.each(['actor_token=x', 'client_secret=bad', 'scope=nothing', 'resource=https://elsewhere.example'])(
    'are never read in part: %s behind 1,000 others',
    async (last) => {
      const { token } = await harness.build.platformToken();
      const many = Array.from({ length: 1000 }, (_, index) => `p${index}=1`).join('&');
      const response = postForm(harness.url, `${encoded(token)}&client_id=platform-tokens&${many}&${last}`);
      expect(await refusal(response)).toEqual([400, 'invalid_request']);
    },
  );

  it('are form-decoded, names too', async () => {
    const { token } = await harness.build.platformToken();
    const form = encoded(token).replace('subject_token', '%73ubject%5Ftoken');
    const response = await postForm(harness.url, `${form}&scope=read+write`);
    expect([response.status, ((await response.json()) as { scope: string }).scope]).toEqual([
      200,
      'read write',
    ]);
  });

  it('in the query are not read', async () => {
    const { token } = await harness.build.platformToken();
    const response = fetch(`${harness.url}/oauth/token?${encoded(token)}`, {
      method: 'POST',
      headers: { 'content-type': formType },
      body: 'x=1',
    });
    expect(await refusal(response)).toEqual([400, 'invalid_request']);
  });

  it.each(['%', '%zz', '%E0%A4%A', '%ff', '%C0%80'])(
    'with the broken encoding %s are refused',
    async (text) => {
      const { token } = await harness.build.platformToken();
      for (const form of [`${encoded(token)}&scope=${text}`, `${encoded(token)}&${text}=x`, encoded(text)]) {
        expect(await refusal(postForm(harness.url, form))).toEqual([400, 'invalid_request']);
      }
    },
  );

  it('with bytes that are no UTF-8 are refused', async () => {
    const { token } = await harness.build.platformToken();
    const body = Buffer.concat([Buffer.from(`${encoded(token)}&scope=`), Buffer.from([0xff, 0xfe])]);
    expect(await raw(body)).toMatchObject({ status: 400, body: { error: 'invalid_request' } });
  });

  it.each(['subject_token', 'scope', 'client_id', 'audience', 'grant_type'])(
    'with NUL are refused: %s',
    async (name) => {
      const { token } = await harness.build.platformToken();
      const values: Record<string, string> = { grant_type: exchangeGrant, subject_token: token };
      values[name] = `${values[name] ?? 'x'}\0`;
      const form = new URLSearchParams(values).toString();
      expect(form).toContain('%00');
      expect(await refusal(postForm(harness.url, form))).toEqual([400, 'invalid_request']);
      expect(await raw(Buffer.from(form.replaceAll('%00', '\0')))).toMatchObject({
        status: 400,
        body: { error: 'invalid_request' },
      });
    },
  );
});

describe('the body', () => {
  it.each([
    'application/json',
    'text/plain',
    'multipart/form-data; boundary=x',
    'application/x-www-form-urlencodedx',
    '',
  ])('of type %j is refused', async (type) => {
    const { token } = await harness.build.platformToken();
    const body = type.includes('json')
      ? JSON.stringify({ grant_type: exchangeGrant, subject_token: token })
      : encoded(token);
    const response = fetch(`${harness.url}/oauth/token`, {
      method: 'POST',
      headers: { 'content-type': type },
      body: Buffer.from(body),
    });
    expect(await refusal(response)).toEqual([400, 'invalid_request']);
  });

  it('of no type, and no body at all, is refused', async () => {
    const { token } = await harness.build.platformToken();
    const url = `${harness.url}/oauth/token`;
    const untyped = await fetch(url, { method: 'POST', body: Buffer.from(encoded(token)) });
    expect(await refusal(untyped)).toEqual([400, 'invalid_request']);
    expect(await refusal(fetch(url, { method: 'POST' }))).toEqual([400, 'invalid_request']);
  });

  it.each([`${formType};charset=UTF-8`, `${formType}; charset=utf-8`, 'Application/X-WWW-Form-URLEncoded'])(
    'of type %j is read',
    async (type) => {
      const { token } = await harness.build.platformToken();
      const response = await postForm(harness.url, encoded(token), { 'content-type': type });
      expect(response.status).toBe(200);
      await response.body?.cancel();
    },
  );

  it('of 16 KiB is read, one byte more is 413', async () => {
    const { token } = await harness.build.platformToken();
    const start = `${encoded(token)}&x=`;
    const fits = start + 'x'.repeat(16 * 1024 - start.length);
    const response = await postForm(harness.url, fits);
    expect(response.status).toBe(200);
    await response.body?.cancel();
    expect(await refusal(postForm(harness.url, `${fits}x`))).toEqual([413, 'invalid_request']);
  });

  it('that is chunked is held to the same bound', async () => {
    const { token } = await harness.build.platformToken();
    const start = Buffer.from(`${encoded(token)}&x=`);
    expect(await raw([start, Buffer.alloc(100, 'x')])).toMatchObject({ status: 200 });
    const tooMuch = [start, ...Array.from({ length: 20 }, () => Buffer.alloc(1024, 'x'))];
    expect(await raw(tooMuch)).toMatchObject({ status: 413, body: { error: 'invalid_request' } });
  });

  it('of a megabyte is 413, and the next request is served', async () => {
    expect(await refusal(postForm(harness.url, `x=${'x'.repeat(1024 * 1024)}`))).toEqual([
      413,
      'invalid_request',
    ]);
    const { token } = await harness.build.platformToken();
    const response = await exchange(harness.url, token);
    expect(response.status).toBe(200);
    await response.body?.cancel();
  });
});

describe('the method', () => {
  it.each(['GET', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])('%s is 405 with Allow: POST', async (method) => {
    const response = await fetch(`${harness.url}/oauth/token`, { method });
    expect(response.headers.get('allow')).toBe('POST');
    expect(await refusal(response)).toEqual([405, 'invalid_request']);
  });

  it('HEAD is 405 with Allow: POST and no body', async () => {
    const response = await fetch(`${harness.url}/oauth/token`, { method: 'HEAD' });
    expect([response.status, response.headers.get('allow')]).toEqual([405, 'POST']);
    expect(await response.text()).toBe('');
  });
});

describe('what a request carried', () => {
  const marker = 'zqMARKERqz';
  const parameters = [
    'grant_type',
    'subject_token',
    'subject_token_type',
    'requested_token_type',
    'scope',
    'resource',
    'audience',
    'actor_token',
    'actor_token_type',
    'client_id',
    'client_secret',
    'client_assertion',
    'client_assertion_type',
    marker,
  ];

  const silent = async (response: Response) => {
    expect(response.status).toBeGreaterThanOrEqual(400);
    const headers = JSON.stringify([...response.headers]);
    expect(`${headers}${await response.text()}`).not.toContain(marker);
  };

  it.each(parameters)('is never echoed: %s', async (name) => {
    const { token } = await harness.build.platformToken();
    const base: Record<string, string> = { grant_type: exchangeGrant, subject_token: token };
    const unknown = { ...base, subject_token: `${token}x` };
    // These are no parameters of the exchange: they would be ignored next to a good subject token.
    const ignored = name === marker || name === 'client_assertion_type';
    const form = new URLSearchParams({ ...(ignored ? unknown : base), [name]: marker });
    await silent(await postForm(harness.url, form.toString()));
    form.append(name, `${marker}2`);
    await silent(await postForm(harness.url, form.toString(), { accept: 'text/html' }));
  });

  it.each(['scope', 'resource', 'grant_type', 'client_id'])(
    'is never echoed to an authenticated client: %s',
    async (name) => {
      const { id, secret } = await harness.build.client(['admin']);
      const authorization = `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`;
      const form = { grant_type: 'client_credentials', [name]: marker };
      await silent(await postForm(harness.url, form, { authorization }));
    },
  );

  it.each([`Bearer ${marker}`, `Basic ${Buffer.from(`${marker}:${marker}`).toString('base64')}`, marker])(
    'is never echoed from Authorization: %s',
    async (authorization) => {
      const { token } = await harness.build.platformToken();
      await silent(await exchange(harness.url, token, {}, { authorization }));
    },
  );
});
