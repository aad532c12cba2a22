import type { IncomingMessage, ServerResponse } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { createTokenSource, type TemporaryError } from '../../../sdk/client/src/index.ts';
import { listen, secret } from './support.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const server of opened.splice(0)) await server.close();
});

async function serve(handler: Handler) {
  const server = await listen(handler);
  opened.push(server);
  return server.url;
}

/** What one attempt at such a server comes to. */
async function attempt(handler: Handler, requestTimeoutMs = 10_000): Promise<TemporaryError> {
  const issuer = await serve(handler);
  const source = createTokenSource({
    issuer,
    platformToken: secret,
    requestTimeoutMs,
    // The second attempt would come long after the bound: it is told at once.
    random: () => 1_000,
  });
  const outcome = await source.getAccessToken().then(
    () => 'a token',
    (error) => error,
  );
  expect(outcome).toMatchObject({ name: 'TemporaryError' });
  return outcome;
}

const good = {
  access_token: 'eyJ.a.b',
  issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
  token_type: 'Bearer',
  expires_in: 14_400,
};
const json =
  (body: unknown, status = 200): Handler =>
  (_request, response) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));

describe('an answer that is not the server’s is a passing fault', () => {
  it.each<[string, Handler, RegExp]>([
    [
      'a page',
      (_request, response) => response.writeHead(200).end('<!doctype html><h1>Log in</h1>'),
      /200 without a JSON object/,
    ],
    [
      'a page with 400',
      (_request, response) => response.writeHead(400).end('<h1>Bad Request</h1>'),
      /400 without a JSON/,
    ],
    ['nothing', (_request, response) => response.end(), /without a JSON object/],
    ['no content', (_request, response) => response.writeHead(204).end(), /answered 204/],
    ['not found', json({ error: 'invalid_request' }, 404), /answered 404/],
    ['a JSON error of a gateway', json({ error: 'Bad Request', message: secret }, 400), /answered 400$/],
    ['a JSON object of a gateway', json({ status: 'ok' }), /usable access_token/],
    ['an array', json([good]), /without a JSON object/],
    ['null', json(null), /without a JSON object/],
    ['another token_type', json({ ...good, token_type: 'DPoP' }), /usable token_type/],
    ['no token_type', json({ ...good, token_type: undefined }), /usable token_type/],
    ['a lifetime as text', json({ ...good, expires_in: '14400' }), /usable expires_in/],
    ['no lifetime', json({ ...good, expires_in: 0 }), /usable expires_in/],
    ['a negative lifetime', json({ ...good, expires_in: -1 }), /usable expires_in/],
    [
      'another issued_token_type',
      json({ ...good, issued_token_type: 'urn:ietf:params:oauth:token-type:refresh_token' }),
      /usable issued_token_type/,
    ],
    ['the platform token itself', json({ ...good, access_token: secret }), /usable access_token/],
    [
      'an access token that would break a header',
      json({ ...good, access_token: 'a\r\nx-evil: 1' }),
      /usable access_token/,
    ],
    [
      'an access token that would break a shell',
      json({ ...good, access_token: 'a$(id)' }),
      /usable access_token/,
    ],
    ['an empty access token', json({ ...good, access_token: '' }), /usable access_token/],
    ['a scope that is no text', json({ ...good, scope: ['a'] }), /usable scope/],
    ['a connection that is cut', (request) => void request.socket.destroy(), /fetch failed/],
    [
      'an answer that is cut',
      (_request, response) => {
        response.writeHead(200, { 'content-length': '500' }).write('{"access_token":"eyJ');
        setTimeout(() => response.destroy(), 20);
      },
      /terminated/,
    ],
  ])('%s', async (_what, handler, message) => {
    const { cause } = await attempt(handler);
    expect((cause as Error).message).toMatch(message);
    expect((cause as Error).message).not.toContain(secret);
  });

  it('that has no end is not read to its end', async () => {
    let sent = 0;
    const { cause } = await attempt((request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      const chunk = Buffer.alloc(16 * 1024, ' ');
      const pour = () => {
        while (!response.destroyed && sent < 1 << 30) {
          sent += chunk.length;
          if (!response.write(chunk)) return void response.once('drain', pour);
        }
      };
      request.resume();
      pour();
    });
    expect((cause as Error).message).toContain('more than 65536 bytes');
    // What was in the buffers of the sockets.
    expect(sent).toBeLessThan(32 << 20);
  });

  it.each<[string, Handler]>([
    ['that never comes', () => {}],
    [
      'whose body drips',
      (_request, response) => {
        response.writeHead(200, { 'content-type': 'application/json' });
        const drip = setInterval(() => response.write(' '), 20);
        response.once('close', () => clearInterval(drip));
      },
    ],
  ])('%s is given up in time, and its connection with it', async (_what, handler) => {
    let closed: Promise<unknown> = Promise.resolve();
    const began = performance.now();
    const { cause } = await attempt((request, response) => {
      // Reset or closed, as it happens.
      closed = new Promise((resolve) => request.socket.once('close', resolve));
      handler(request, response);
    }, 300);
    expect((cause as Error).message).toBe('no complete answer within 300 ms');
    expect(performance.now() - began).toBeLessThan(1_500);
    await closed;
  });
});

describe('a redirect', () => {
  it.each([301, 302, 303, 307, 308])('by %d is not followed with the secret', async (status) => {
    const elsewhere: string[] = [];
    const other = await serve((request, response) => {
      elsewhere.push(String(request.url));
      json(good)(request, response);
    });
    const { cause } = await attempt((_request, response) =>
      response.writeHead(status, { location: `${other}/oauth/token` }).end(),
    );
    expect((cause as Error).message).toContain(`answered ${status}: redirects are not followed`);
    expect(elsewhere).toEqual([]);
  });

  it('that the fetch in use followed all the same is not believed', async () => {
    const answer = new Response(JSON.stringify(good));
    Object.defineProperty(answer, 'redirected', { value: true });
    const source = createTokenSource({
      issuer: 'https://id.example.com',
      platformToken: secret,
      random: () => 1_000,
      fetch: async () => answer,
    });
    await expect(source.getAccessToken()).rejects.toThrow('the answer came by a redirect');
  });
});
