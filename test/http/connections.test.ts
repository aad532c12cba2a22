import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHarness, exchangeGrant, type Harness } from '../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(async () => {
  const logs = harness.logs();
  await harness.close();
  expect(logs).not.toMatch(/"status":500|unexpected error|"level":(50|60)/);
});

/** Bytes as they are, on a connection of their own. @returns what came back until the server or we hung up */
function send(bytes: string, hangUpAfterMs?: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(harness.url).port), '127.0.0.1');
    let answer = '';
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => {
      answer += chunk;
    });
    socket.once('close', () => resolve(answer));
    socket.once('error', reject);
    socket.write(bytes);
    if (hangUpAfterMs !== undefined) setTimeout(() => socket.destroy(), hangUpAfterMs);
  });
}

const form = (token: string) => `grant_type=${encodeURIComponent(exchangeGrant)}&subject_token=${token}`;
const post = (headers: readonly string[], body: string) =>
  [
    'POST /oauth/token HTTP/1.1',
    'Host: issuer.test',
    'Content-Type: application/x-www-form-urlencoded',
    ...headers,
    '',
    body,
  ].join('\r\n');
const status = (answer: string) => Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1]);

describe('a request target', () => {
  it.each([
    'http://[',
    'http://[/cb?token=ptk_secret',
    'http://',
    'ftp://issuer.test/health/live',
    'health/live',
    '*x',
    '/%00',
    '/admin/tokens?q=%00',
  ])('that is none is 400, and the server goes on: %s', async (target) => {
    const answer = await send(`GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    expect(status(answer)).toBe(400);
    const live = await fetch(`${harness.url}/health/live`);
    expect(live.status).toBe(200);
    await live.body?.cancel();
  });

  it('in absolute form is answered like its path (RFC 9112 §3.2.2)', async () => {
    const target = 'http://somebody.example/oauth/jwks?x=1';
    const answer = await send(`GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    expect(status(answer)).toBe(200);
    expect(answer).toContain('"keys":');
  });
});

describe('a Host header', () => {
  const get = (...lines: string[]) =>
    ['GET /health/live HTTP/1.1', ...lines, 'Connection: close', '', ''].join('\r\n');

  it.each([
    [],
    ['Host: a', 'Host: a'],
    ['Host: a', 'hOST: b'],
    ['Host: []:%%'],
    ['Host: a/b'],
    ['Host: a b'],
    ['Host: user@a'],
    ['Host: a:b'],
  ])('that is missing, repeated or none is 400 (RFC 9112 §3.2): %s %s', async (...lines: string[]) => {
    expect(status(await send(get(...lines)))).toBe(400);
  });

  it.each(['a', 'a.example:8443', '192.0.2.1', '[2001:db8::1]:80', 'localhost:', ''])(
    'may be %s',
    async (host) => {
      expect(status(await send(get(`Host: ${host}`)))).toBe(200);
    },
  );
});

describe('what is no HTTP, behind a request with secrets', () => {
  it('is cut, and neither the request nor its credentials are logged', async () => {
    const { token } = await harness.build.platformToken();
    const { id, secret } = await harness.build.client(['admin']);
    const basic = Buffer.from(`${id}:${secret}`).toString('base64');
    const body = form(token);
    const before = harness.logs().length;
    await send(post([`Content-Length: ${body.length}`], `${body}\n\nGARBAGE\r\n\r\n`));
    await send(post([`Content-Length: ${body.length}`, 'Connection: close'], `${body}more than was said`));
    await send(post(['Transfer-Encoding: chunked'], `${body.length.toString(16)}\r\n${body}\r\nZZ\r\n\r\n`));
    await send(post([`Authorization: Basic ${basic}`, 'Transfer-Encoding: chunked'], 'ZZ\r\n\r\n'));
    const logs = () => harness.logs().slice(before);
    await expect.poll(() => logs().match(/connection error/g)?.length ?? 0).toBeGreaterThan(0);
    const bytes = (text: string) => [...Buffer.from(text)].join(',');
    for (const text of [token, secret, basic, bytes(token.slice(0, 20)), bytes(basic.slice(0, 20))]) {
      expect(logs()).not.toContain(text);
    }
    expect(logs()).not.toContain('rawPacket');
  });
});

it('a client that goes away in the middle of its body is no error of the server', async () => {
  const before = harness.logs().length;
  await send(post(['Content-Length: 500'], 'grant_type='), 50);
  const line = () => harness.logs().slice(before);
  await expect.poll(line).toContain('"aborted":true');
  expect(line()).toMatch(/"route":"\/oauth\/token","status":(400|499)/);
  expect(line()).toContain('"ip":"127.0.0.1"');
});

describe('a second Authorization header', () => {
  it('is refused at the token endpoint, whichever of the two is good', async () => {
    const { token } = await harness.build.platformToken();
    const { id, secret } = await harness.build.client(['admin']);
    const good = `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`;
    const bad = `Basic ${Buffer.from(`${id}:wrong`).toString('base64')}`;
    for (const pair of [
      [`Bearer ${token}`, bad],
      [`Bearer ${token}`, 'Bearer xyz'],
      [good, bad],
      [bad, good],
    ]) {
      const body = form(token);
      const headers = pair.map((value) => `Authorization: ${value}`);
      const answer = await send(
        post([...headers, `Content-Length: ${body.length}`, 'Connection: close'], body),
      );
      expect(status(answer)).toBe(400);
      expect(answer).toContain('"error":"invalid_request"');
    }
  });

  it('is refused at the admin API', async () => {
    const jwt = await harness.build.machineJwt();
    const answer = await send(
      `GET /admin/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${jwt}\r\nAuthorization: Bearer x\r\n\r\n`,
    );
    expect(status(answer)).toBe(400);
  });
});
