import { connect } from 'node:net';
import Koa from 'koa';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readConfig } from '../../config/env.ts';
import { errorMapper } from '../../server/http/errors.ts';
import { requestTarget } from '../../server/http/request-target.ts';
import { securityHeaders } from '../../server/http/security-headers.ts';
import { type Listener, openListener } from '../../server/listener.ts';

/** What Node would answer or do by itself, before any middleware. */
let listener: Listener;
beforeAll(async () => {
  listener = await openListener({ ...readConfig({}), port: 0 });
  const app = new Koa();
  app.use(securityHeaders({ tls: false }));
  app.use(errorMapper({ issuer: 'http://issuer.test', onUnexpected() {} }));
  app.use(requestTarget);
  app.use(async (ctx) => {
    if (ctx.method === 'CONNECT') {
      ctx.set('Allow', 'POST');
      ctx.status = 405;
      return;
    }
    if (ctx.path === '/slow') await new Promise((resolve) => setTimeout(resolve, 50));
    ctx.type = 'text/plain';
    // As bytes: what Node holds back until an earlier answer is out, it writes in another order then.
    ctx.body = Buffer.from('well');
  });
  listener.handle(app.callback());
});
afterAll(() => listener.drain());

/** @returns what came back until the server closed the connection */
function send(bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(listener.port, '127.0.0.1');
    let answer = '';
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => {
      answer += chunk;
    });
    socket.once('close', () => resolve(answer));
    socket.once('error', reject);
    socket.write(bytes);
  });
}

const last = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';

it.each([
  ['nonsense', 'nonsense\r\n\r\n', 400],
  ['a bad chunk', 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', 400],
  [
    'two framings',
    'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc',
    400,
  ],
  ['a header that is too long', `GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${'a'.repeat(20_000)}\r\n\r\n`, 431],
  ['a tunnel', 'CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n', 400],
  ['a target without a host', 'GET http:///x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 400],
  ['no Host', 'GET / HTTP/1.1\r\nConnection: close\r\n\r\n', 400],
])('refuses %s as it refuses everything, with the security headers', async (_, bytes, status) => {
  const [head = '', body = ''] = (await send(bytes)).split('\r\n\r\n');
  expect(head).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  for (const field of [
    'X-Content-Type-Options: nosniff',
    'Referrer-Policy: no-referrer',
    "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
    'Cache-Control: no-store',
    'Content-Type: application/problem+json',
    'Connection: close',
  ]) {
    expect(head).toContain(field);
  }
  expect(JSON.parse(body)).toMatchObject({ type: 'about:blank', status });
});

it('has CONNECT answered by the application, like any other method', async () => {
  const answer = await send('CONNECT /oauth/token HTTP/1.1\r\nHost: x\r\n\r\n');
  expect(answer).toMatch(/^HTTP\/1\.1 405 Method Not Allowed\r\n/);
  expect(answer).toContain('\r\nAllow: POST\r\n');
});

it('ends a connection on which somebody asked for a tunnel, whatever they do with it', async () => {
  const socket = connect({ port: listener.port, host: '127.0.0.1', allowHalfOpen: true });
  let answer = '';
  socket.on('data', (chunk) => {
    answer += chunk;
  });
  socket.write(`CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n${'a'.repeat(10_000)}`);
  await expect.poll(() => answer).toMatch(/^HTTP\/1\.1 400 /);
  await expect.poll(() => listener.connections()).toBe(0);
  socket.destroy();
});

it('answers a request that nonsense follows, and nothing in its place', async () => {
  const answer = await send('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n\0\x01nonsense\r\n\r\n');
  expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
});

it('reads nothing behind a request that closes the connection', async () => {
  const answer = await send(`GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n${last}`);
  expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
});

it('puts no interim answer into another one', async () => {
  const expecting = 'POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n';
  const answer = await send(`GET /slow HTTP/1.1\r\nHost: x\r\n\r\n${expecting}`);
  // An answer to a request that was not asked for its body closes the connection.
  expect(answer.split('\r\n\r\nwell')).toHaveLength(3);
  expect(answer).not.toContain('100 Continue');
});

it('asks for the body of a request that waits for that', async () => {
  const expecting = 'POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na';
  expect(await send(expecting + last)).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
});

it('lets an expectation that it does not know be (RFC 9110 §10.1.1)', async () => {
  const answer = await send(`GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n${last}`);
  expect(answer.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(2);
});
