import { type AddressInfo, connect } from 'node:net';
import express from 'express';
import fastify from 'fastify';
import Koa from 'koa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as forExpress from '../../../sdk/verifier/src/express.ts';
import * as forFastify from '../../../sdk/verifier/src/fastify.ts';
import * as forFetch from '../../../sdk/verifier/src/fetch.ts';
import type { Verifier } from '../../../sdk/verifier/src/index.ts';
import * as forKoa from '../../../sdk/verifier/src/koa.ts';
import { audience, createIssuer, type Issuer } from './issuer.ts';

const resourceMetadata = 'https://api.example.com/.well-known/oauth-protected-resource/tms';
const write = { requiredScopes: ['tms:write'] };

interface Running {
  readonly request: (path: string, headers?: Record<string, string>) => Promise<Response>;
  /** None for what has no socket. */
  readonly port?: number;
  readonly close: () => Promise<void>;
}

/** Each answers `GET /read` and `GET /write` with the token's subject. */
const frameworks: Record<string, (verifier: Verifier) => Promise<Running>> = {
  async Koa(verifier) {
    const app = new Koa();
    app.silent = true;
    app.use(forKoa.requireAccessToken(verifier));
    app.use((ctx, next) =>
      ctx.path === '/write' ? forKoa.requireAccessToken(verifier, write)(ctx, next) : next(),
    );
    app.use((ctx) => {
      ctx.body = { sub: ctx.state.user.sub };
    });
    const server = app.listen(0);
    return overSocket((server.address() as AddressInfo).port, async () => void server.close());
  },
  async Express(verifier) {
    const app = express();
    app.use(forExpress.requireAccessToken(verifier));
    app.get('/read', (req, res) => void res.json({ sub: req.auth?.sub }));
    app.get('/write', forExpress.requireAccessToken(verifier, write), (req, res) => {
      res.json({ sub: req.auth?.sub });
    });
    const server = app.listen(0);
    return overSocket((server.address() as AddressInfo).port, async () => void server.close());
  },
  async Fastify(verifier) {
    const app = fastify();
    app.addHook('onRequest', forFastify.requireAccessToken(verifier));
    app.get('/read', async (request) => ({ sub: forFastify.claimsOf(request).sub }));
    app.get('/write', { onRequest: forFastify.requireAccessToken(verifier, write) }, async (request) => ({
      sub: forFastify.claimsOf(request).sub,
    }));
    await app.listen({ port: 0 });
    return overSocket((app.server.address() as AddressInfo).port, () => app.close());
  },
  async Fetch(verifier) {
    const read = forFetch.requireAccessToken(verifier, async (_request: Request, { sub }) =>
      Response.json({ sub }),
    );
    const writing = forFetch.requireAccessToken(
      verifier,
      async (_request: Request, { sub }, _env: object) => Response.json({ sub }),
      write,
    );
    return {
      request: (path, headers = {}) => {
        const request = new Request(`https://api.example.com${path}`, { headers });
        return path === '/write' ? writing(request, {}) : read(request);
      },
      close: async () => {},
    };
  },
};

function overSocket(port: number, close: () => Promise<void>): Running {
  return {
    request: (path, headers = {}) => fetch(`http://127.0.0.1:${port}${path}`, { headers }),
    port,
    close,
  };
}

describe.each(Object.entries(frameworks))('%s', (_name, start) => {
  let remote: Issuer;
  let running: Running;
  beforeAll(async () => {
    remote = await createIssuer();
    running = await start(remote.verifier({ requiredScopes: ['tms:read'], resourceMetadata }));
  });
  afterAll(() => running.close());

  const bearer = async (claims: Parameters<Issuer['token']>[0] = {}) => ({
    authorization: `Bearer ${await remote.token(claims)}`,
  });
  const realm = `Bearer realm="${audience}"`;
  const metadata = `resource_metadata="${resourceMetadata}"`;

  it.each([
    ['no Authorization', {}],
    ['another scheme', { authorization: 'Basic YTpi' }],
    ['a scheme that only begins so', { authorization: 'Bearers x' }],
  ])('says what it wants, and no error, to a request with %s', async (_what, headers) => {
    const response = await running.request('/read', headers);
    expect(response.status).toBe(401);
    expect(response.headers.get('www-authenticate')).toBe(`${realm}, ${metadata}`);
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(await response.text()).toBe('');
  });

  it.each([
    ['no token', 'Bearer'],
    ['two tokens', 'Bearer aa bb'],
    ['two values in one', 'Bearer aa, Bearer bb'],
    ['a platform token', 'Bearer ptk_0000000000000000000000000000000000000000000000000'],
    ['parameters', 'Bearer token="aa"'],
  ])('refuses Bearer with %s as invalid_token', async (_what, authorization) => {
    const response = await running.request('/read', { authorization });
    expect(response.status).toBe(401);
    expect(response.headers.get('www-authenticate')).toMatch(
      /^Bearer realm="[^"]+", error="invalid_token", error_description="[\x20-\x21\x23-\x5b\x5d-\x7e]+", resource_metadata="[^"]+"$/,
    );
    expect(await response.json()).toEqual({ error: 'invalid_token', error_description: expect.any(String) });
  });

  it('refuses an expired token as invalid_token', async () => {
    const headers = await bearer({ exp: remote.state.now / 1000 - 61 });
    const response = await running.request('/read', headers);
    expect(response.status).toBe(401);
    expect(response.headers.get('www-authenticate')).toBe(
      `${realm}, error="invalid_token", error_description="The access token expired", ${metadata}`,
    );
  });

  it('answers 403 with the scopes that are needed', async () => {
    const response = await running.request('/write', await bearer());
    expect(response.status).toBe(403);
    expect(response.headers.get('www-authenticate')).toBe(
      `${realm}, error="insufficient_scope", error_description="The access token lacks a scope", scope="tms:read tms:write", ${metadata}`,
    );
    expect(await response.json()).toMatchObject({ error: 'insufficient_scope' });
  });

  it('lets a good token in, whatever the case of Bearer, with its claims', async () => {
    for (const scheme of ['Bearer', 'bearer', 'BEARER']) {
      const authorization = `${scheme} ${await remote.token({ scope: 'tms:write tms:read', sub: 'Ada' })}`;
      for (const path of ['/read', '/write']) {
        const response = await running.request(path, { authorization });
        expect([response.status, await response.json()]).toEqual([200, { sub: 'Ada' }]);
      }
    }
  });

  it('refuses a request with two Authorization fields, the first of which is good', async () => {
    const { authorization } = await bearer();
    if (running.port === undefined) {
      const headers = new Headers([
        ['authorization', authorization],
        ['authorization', 'Bearer other'],
      ]);
      expect((await running.request('/read', Object.fromEntries(headers))).status).toBe(401);
      return;
    }
    const answer = await sendRaw(running.port, [
      'GET /read HTTP/1.1',
      'Host: localhost',
      `Authorization: ${authorization}`,
      'authorization: Bearer other',
      'Connection: close',
    ]);
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain('error="invalid_request"');
  });

  it('answers 503 with Retry-After, and no challenge, while the issuer is away', async () => {
    const away = await createIssuer();
    away.state.away = 'network';
    const other = await start(away.verifier());
    try {
      const response = await other.request('/read', await bearer());
      expect(response.status).toBe(503);
      expect(response.headers.get('retry-after')).toBe('5');
      expect(response.headers.get('www-authenticate')).toBeNull();
      expect(await response.json()).toMatchObject({ error: 'temporarily_unavailable' });
    } finally {
      await other.close();
    }
  });

  it('leaves what is no verdict to the application', async () => {
    const fault = (): never => {
      throw new Error('a fault of the code');
    };
    const other = await start({ verify: fault, authenticate: fault });
    try {
      const status = await other.request('/read').then(
        (response) => response.status,
        () => 500,
      );
      expect(status).toBe(500);
    } finally {
      await other.close();
    }
  });
});

/** What an HTTP client of the language would not send. */
function sendRaw(port: number, lines: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(`${lines.join('\r\n')}\r\n\r\n`));
    socket.on('data', (data) => {
      answer += data.toString();
    });
    socket.on('end', () => resolve(answer));
    socket.on('error', reject);
  });
}
