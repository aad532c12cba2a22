import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { createTokenSource, DeadTokenError, type FetchLike } from '../../../sdk/client/src/index.ts';
import { listen, secret } from './support.ts';

interface Seen {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly authorization: string | undefined;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}
type Handler = (request: IncomingMessage, response: ServerResponse) => void;

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const server of opened.splice(0)) await server.close();
});

/** A server that remembers, and answers from a script, the last line of it again and again. */
async function serve(...script: Handler[]) {
  const seen: Seen[] = [];
  const server = await listen(async (request, response) => {
    const { method, url, headers } = request;
    const body = await text(request);
    seen.push({ method, url, authorization: headers.authorization, headers, body });
    const handler = script.length > 1 ? script.shift() : script[0];
    handler?.(request, response);
  });
  opened.push(server);
  return { url: server.url, seen };
}

const ok: Handler = (_request, response) => response.end('fine');
const unauthorized: Handler = (_request, response) =>
  response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' }).end('no');
const redirect =
  (status: number, location: string): Handler =>
  (_request, response) =>
    response.writeHead(status, { location }).end();

/** A token endpoint whose nth token is `token-n`, and which refuses after `limit`. */
async function issuer(limit = Number.POSITIVE_INFINITY) {
  let issued = 0;
  const server = await serve((_request, response) => {
    issued += 1;
    response.writeHead(issued > limit ? 400 : 200, { 'content-type': 'application/json' }).end(
      JSON.stringify(
        issued > limit
          ? { error: 'invalid_request' }
          : {
              access_token: `token-${issued}`,
              issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
              token_type: 'Bearer',
              expires_in: 14_400,
            },
      ),
    );
  });
  return { ...server, issued: () => issued };
}

async function stage(api: { url: string }, { limit, fetch }: { limit?: number; fetch?: FetchLike } = {}) {
  const tokens = await issuer(limit);
  const source = createTokenSource({
    issuer: tokens.url,
    platformToken: secret,
    origins: [api.url],
    fetch,
  });
  return { source, tokens };
}

describe('where the access token goes', () => {
  it('nowhere, where no origin was allowed', async () => {
    const api = await serve(ok);
    const tokens = await issuer();
    const source = createTokenSource({ issuer: tokens.url, platformToken: secret });
    await expect(source.fetch(api.url)).rejects.toThrow('origins must name');
    expect(api.seen).toEqual([]);
    expect(tokens.issued()).toBe(0);
  });

  it.each<[string, (url: string) => Parameters<FetchLike>]>([
    ['text', (url) => [`${url}/a`]],
    ['a URL', (url) => [new URL(`${url}/a`)]],
    ['a Request', (url) => [new Request(`${url}/a`)]],
  ])('to an allowed origin, by %s', async (_what, args) => {
    const api = await serve(ok);
    const { source } = await stage(api);
    const response = await source.fetch(...args(api.url));
    expect(await response.text()).toBe('fine');
    expect(api.seen.map(({ url, authorization }) => [url, authorization])).toEqual([
      ['/a', 'Bearer token-1'],
    ]);
  });

  it('to no other origin: another port, another name of the same machine', async () => {
    const [api, other] = [await serve(ok), await serve(ok)];
    const { source, tokens } = await stage(api);
    for (const url of [other.url, api.url.replace('127.0.0.1', 'localhost')]) {
      await source.fetch(url).then((response) => response.text());
    }
    expect([...api.seen, ...other.seen].map(({ authorization }) => authorization)).toEqual([
      undefined,
      undefined,
    ]);
    expect(tokens.issued()).toBe(0);
  });

  it('and leaves an Authorization of the caller alone', async () => {
    const api = await serve(unauthorized);
    const { source, tokens } = await stage(api);
    const response = await source.fetch(api.url, { headers: { Authorization: 'Basic eA==' } });
    expect(response.status).toBe(401);
    expect(api.seen.map(({ authorization }) => authorization)).toEqual(['Basic eA==']);
    expect(tokens.issued()).toBe(0);
  });

  it('with the headers, method and body of the caller', async () => {
    const api = await serve(ok);
    const { source } = await stage(api);
    await source.fetch(new Request(api.url, { method: 'PUT', headers: { 'x-a': '1' }, body: 'b' }));
    await source.fetch(api.url, {
      method: 'POST',
      headers: [['x-a', '2']],
      body: new URLSearchParams({ c: 'd' }),
    });
    expect(api.seen.map(({ method, body, headers }) => [method, body, headers['x-a']])).toEqual([
      ['PUT', 'b', '1'],
      ['POST', 'c=d', '2'],
    ]);
  });
});

it('a request is what it was when it was asked for, though the caller goes on writing', async () => {
  const api = await serve(ok);
  const { source } = await stage(api);
  const url = new URL(api.url);
  const init = { method: 'POST', headers: { 'x-a': '' } };
  const pages = ['1', '2', '3'].map((page) => {
    url.searchParams.set('page', page);
    init.headers['x-a'] = page;
    init.method = page === '3' ? 'PUT' : 'POST';
    return source.fetch(url, init);
  });
  await Promise.all(pages);
  expect(api.seen.map(({ method, url, headers }) => [method, url, headers['x-a']]).sort()).toEqual([
    ['POST', '/?page=1', '1'],
    ['POST', '/?page=2', '2'],
    ['PUT', '/?page=3', '3'],
  ]);
});

describe('a redirect', () => {
  it.each([301, 302, 303, 307, 308])(
    'by %d to another origin is followed without the access token',
    async (status) => {
      const other = await serve(ok);
      const api = await serve(redirect(status, `${other.url}/there`));
      const { source } = await stage(api);
      const response = await source.fetch(api.url, { headers: { cookie: 'a=b', 'x-a': '1' } });
      expect(await response.text()).toBe('fine');
      expect(other.seen).toMatchObject([{ method: 'GET', url: '/there', authorization: undefined }]);
      expect(other.seen[0]?.headers).toMatchObject({ 'x-a': '1' });
      expect(other.seen[0]?.headers).not.toHaveProperty('cookie');
    },
  );

  it('that leads back from there comes without it too, and its 401 is no reason to ask again', async () => {
    let back = '';
    const other = await serve((request, response) => redirect(302, back)(request, response));
    const api = await serve(redirect(302, `${other.url}/`), unauthorized);
    back = `${api.url}/back`;
    const { source, tokens } = await stage(api);
    expect((await source.fetch(api.url)).status).toBe(401);
    expect(api.seen.map(({ authorization }) => authorization)).toEqual(['Bearer token-1', undefined]);
    expect(tokens.issued()).toBe(1);
  });

  it('to another allowed origin is another origin all the same', async () => {
    const other = await serve(ok);
    const api = await serve(redirect(307, other.url));
    const tokens = await issuer();
    const source = createTokenSource({
      issuer: tokens.url,
      platformToken: secret,
      origins: [api.url, other.url],
    });
    await source.fetch(api.url);
    expect(other.seen[0]?.authorization).toBeUndefined();
  });

  it.each([
    [301, 'POST', 'GET', ''],
    [302, 'POST', 'GET', ''],
    [303, 'PUT', 'GET', ''],
    [301, 'PUT', 'PUT', 'x'],
    [307, 'POST', 'POST', 'x'],
    [308, 'POST', 'POST', 'x'],
  ])('by %d of a %s within the origin is a %s with the access token', async (status, method, then, body) => {
    const api = await serve(redirect(status, '/there?a=b'), ok);
    const { source } = await stage(api);
    await source.fetch(`${api.url}/here`, { method, body: 'x' });
    expect(api.seen[1]).toMatchObject({
      method: then,
      url: '/there?a=b',
      authorization: 'Bearer token-1',
      body,
    });
    expect(api.seen[1]?.headers['content-type']).toBe(body ? 'text/plain;charset=UTF-8' : undefined);
  });

  it('without end, to another scheme or with a body that was read is an error', async () => {
    const endless = await serve(redirect(302, '/'));
    await expect((await stage(endless)).source.fetch(endless.url)).rejects.toThrow('too many redirects');
    expect(endless.seen).toHaveLength(21);
    const strange = await serve(redirect(302, 'file:///etc/passwd'));
    await expect((await stage(strange)).source.fetch(strange.url)).rejects.toThrow(TypeError);
    const again = await serve(redirect(307, '/'));
    const { source } = await stage(again);
    await expect(source.fetch(new Request(again.url, { method: 'POST', body: 'x' }))).rejects.toThrow(
      'cannot be sent again',
    );
  });

  it('is not followed where the caller does not want that', async () => {
    const api = await serve(redirect(302, '/'));
    const { source } = await stage(api);
    expect((await source.fetch(api.url, { redirect: 'manual' })).status).toBe(302);
    await expect(source.fetch(api.url, { redirect: 'error' })).rejects.toThrow(TypeError);
    expect(api.seen).toHaveLength(2);
  });
});

describe('a 401', () => {
  it.each<[string, RequestInit]>([
    ['no body', {}],
    ['text', { method: 'POST', body: 'x=y' }],
    ['a form', { method: 'POST', body: new URLSearchParams({ x: 'y' }) }],
    ['bytes', { method: 'POST', body: new TextEncoder().encode('x=y') }],
    ['a Blob', { method: 'POST', body: new Blob(['x=y']) }],
  ])('is answered once, with a fresh token and %s again', async (_what, init) => {
    const api = await serve(unauthorized, ok);
    const { source, tokens } = await stage(api);
    const response = await source.fetch(api.url, init);
    expect(await response.text()).toBe('fine');
    expect(api.seen.map(({ authorization }) => authorization)).toEqual(['Bearer token-1', 'Bearer token-2']);
    expect(new Set(api.seen.map(({ body }) => body))).toEqual(new Set([init.body ? 'x=y' : '']));
    expect(tokens.issued()).toBe(2);
  });

  it('again is the caller’s to see', async () => {
    const api = await serve(unauthorized);
    const { source, tokens } = await stage(api);
    const response = await source.fetch(api.url);
    expect([response.status, await response.text()]).toEqual([401, 'no']);
    expect(api.seen).toHaveLength(2);
    // One more at once would be refused too.
    expect((await source.fetch(api.url)).status).toBe(401);
    expect(api.seen).toHaveLength(3);
    expect(tokens.issued()).toBe(2);
  });

  it('of a body that cannot be sent again is the caller’s to see, and the next call has a fresh token', async () => {
    const api = await serve(unauthorized, ok);
    const { source } = await stage(api);
    const body = new Blob(['x']).stream();
    const response = await source.fetch(api.url, { method: 'POST', body, duplex: 'half' } as RequestInit);
    expect(response.status).toBe(401);
    expect((await source.fetch(api.url)).status).toBe(200);
    expect(api.seen.map(({ authorization }) => authorization)).toEqual(['Bearer token-1', 'Bearer token-2']);
  });

  it('of a thousand requests at once is one exchange', async () => {
    const api = await serve((request, response) =>
      (request.headers.authorization === 'Bearer token-1' ? unauthorized : ok)(request, response),
    );
    const { source, tokens } = await stage(api);
    const responses = await Promise.all(Array.from({ length: 1_000 }, () => source.fetch(api.url)));
    expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([200]));
    for (const response of responses) await response.text();
    expect(tokens.issued()).toBe(2);
  });

  it('because the platform token was revoked is a DeadTokenError', async () => {
    const api = await serve(unauthorized);
    const { source } = await stage(api, { limit: 1 });
    await expect(source.fetch(api.url)).rejects.toThrow(DeadTokenError);
  });
});

it('a signal ends the call, in the exchange and in the request', async () => {
  const api = await serve(() => {});
  const { source } = await stage(api);
  await expect(source.fetch(api.url, { signal: AbortSignal.timeout(200) })).rejects.toThrow(
    /timeout|aborted/,
  );
  const silent = await serve(() => {});
  const waiting = createTokenSource({ issuer: silent.url, platformToken: secret, origins: [api.url] });
  const request = new Request(api.url, { signal: AbortSignal.timeout(200) });
  await expect(waiting.fetch(request)).rejects.toThrow(/timeout|aborted/);
  expect(api.seen).toHaveLength(1);
});
