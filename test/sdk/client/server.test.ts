import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { policy } from '../../../config/policy.ts';
import { createTokenSource, DeadTokenError, type TokenSourceOptions } from '../../../sdk/client/src/index.ts';
import { createHarness, findFreePort, type Harness, kek } from '../../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(() => harness.close());

const source = (tokenEndpoint: string, platformToken: string, more: Partial<TokenSourceOptions> = {}) =>
  createTokenSource({ tokenEndpoint, platformToken, ...more } as TokenSourceOptions);

/** What the server's own log says of its token endpoint. */
const requestsLogged = () =>
  harness
    .logs()
    .split('\n')
    .filter((line) => line.includes('"route":"/oauth/token"') && line.includes('"msg":"request"')).length;

const exchangesAudited = async (tokenId: string) =>
  (await harness.database.knex('exchange_events').where({ token_id: tokenId })).length;

describe('a server that is well', () => {
  it('sees one exchange of a thousand callers at once, in its audit trail and in its log', async () => {
    const { token, id } = await harness.build.platformToken();
    const before = requestsLogged();
    const { getAccessToken } = source(`${harness.url}/oauth/token`, token);
    const tokens = await Promise.all(Array.from({ length: 1_000 }, () => getAccessToken()));
    expect(new Set(tokens).size).toBe(1);
    await expect.poll(() => exchangesAudited(id)).toBe(1);
    // A second one would be written with the next batch.
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(await exchangesAudited(id)).toBe(1);
    expect(requestsLogged() - before).toBe(1);
  });

  it('sees one request of a thousand callers with a dead token, and none of the next thousand', async () => {
    const { token } = await harness.build.platformToken({ revokedAt: new Date() });
    const before = requestsLogged();
    const { getAccessToken } = source(`${harness.url}/oauth/token`, token);
    for (let round = 0; round < 2; round += 1) {
      const outcomes = await Promise.allSettled(Array.from({ length: 1_000 }, () => getAccessToken()));
      expect(
        outcomes.every(
          (outcome) => outcome.status === 'rejected' && outcome.reason instanceof DeadTokenError,
        ),
      ).toBe(true);
    }
    expect(requestsLogged() - before).toBe(1);
  });

  it('refuses a scope that the token lacks, which is no dead token', async () => {
    const { token } = await harness.build.platformToken();
    const { getAccessToken } = source(`${harness.url}/oauth/token`, token, { scope: 'everything' });
    await expect(getAccessToken()).rejects.toMatchObject({
      name: 'ExchangeRefusedError',
      code: 'invalid_scope',
    });
  });
});

/** A proxy that counts, and answers by itself while there is a storm. It has the second of every request. */
async function createProxy(target: () => number) {
  const arrivals: number[] = [];
  let stormUntil = 0;
  let retryAfter = 1;
  let status = 503;
  const proxy = createServer((request, response) => {
    arrivals.push(performance.now());
    if (performance.now() < stormUntil) {
      request.resume();
      response.writeHead(status, { 'retry-after': String(retryAfter) }).end('<h1>later</h1>');
      return;
    }
    const upstream = connect(target(), '127.0.0.1');
    upstream.on('error', () => request.socket.destroy());
    request.socket.on('error', () => upstream.destroy());
    upstream.on('close', () => response.destroy());
    const headers = Object.entries({ ...request.headers, connection: 'close' })
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join('');
    upstream.write(`${request.method} ${request.url} HTTP/1.1\r\n${headers}\r\n`);
    request.pipe(upstream, { end: false });
    // The answer as it comes: what breaks off at the server breaks off at the client.
    upstream.pipe(request.socket);
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const { port } = proxy.address() as { port: number };
  return {
    tokenEndpoint: `http://127.0.0.1:${port}/oauth/token`,
    arrivals,
    storm(seconds: number, after: number, answer: number) {
      stormUntil = performance.now() + seconds * 1_000;
      retryAfter = after;
      status = answer;
    },
    /** The most that came within one second, whenever that began. */
    busiestSecond: () =>
      Math.max(...arrivals.map((from) => arrivals.filter((at) => at >= from && at < from + 1_000).length)),
    async close() {
      proxy.closeAllConnections();
      proxy.close();
      await once(proxy, 'close');
    },
  };
}

it("a server's own 429 is waited out, and seen by no caller", async () => {
  const strict = await createHarness({ env: { RATE_LIMIT_OVERRIDES: 'exchanges=1/2' } });
  try {
    const { token } = await strict.build.platformToken();
    const got = [];
    for (let n = 0; n < 3; n += 1)
      got.push(await source(`${strict.url}/oauth/token`, token).getAccessToken());
    expect(new Set(got).size).toBe(3);
    expect(strict.limited).toContain('exchanges');
    // It comes back when it was told to: no more than one refusal for each of them.
    expect(strict.limited.length).toBeLessThanOrEqual(2);
  } finally {
    await strict.close();
  }
}, 30_000);

describe('a server that is not', () => {
  let child: ChildProcess | undefined;
  let port: number;
  beforeAll(async () => {
    port = await findFreePort();
  });
  const start = async () => {
    child = spawn(process.execPath, ['server/main.ts'], {
      env: {
        PATH: process.env.PATH,
        PORT: String(port),
        DATABASE_URL: harness.databaseUrl,
        KEY_ENCRYPTION_KEY: kek.toString('base64url'),
      },
      stdio: 'ignore',
    });
    const ready = () =>
      fetch(`http://127.0.0.1:${port}/health/ready`).then(
        ({ ok }) => ok,
        () => false,
      );
    await expect.poll(ready, { timeout: 20_000 }).toBe(true);
  };
  const kill = async () => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  };
  afterEach(kill);

  it('a kill -9 and a restart are seen by no caller, and cost a handful of requests', async () => {
    const { token, id } = await harness.build.platformToken();
    await start();
    const proxy = await createProxy(() => port);
    try {
      const { getAccessToken, invalidate } = source(proxy.tokenEndpoint, token);
      const first = await getAccessToken();
      // The trail is written behind the answers, and is to hold both exchanges.
      await expect.poll(() => exchangesAudited(id)).toBe(1);
      await kill();
      invalidate(first);
      const began = performance.now();
      const callers = Array.from({ length: 1_000 }, () => getAccessToken());
      await new Promise((resolve) => setTimeout(resolve, 2_000));
      callers.push(...Array.from({ length: 1_000 }, () => getAccessToken()));
      await start();
      const tokens = await Promise.all(callers);
      const seconds = (performance.now() - began) / 1_000;
      expect(new Set(tokens).size).toBe(1);
      expect(tokens[0]).not.toBe(first);
      // Two exchanges, and all others found nobody: at most ten a second, whatever chance does, and far fewer on average.
      await expect.poll(() => exchangesAudited(id)).toBe(2);
      const retries = proxy.arrivals.length - 2;
      expect(retries).toBeGreaterThan(0);
      expect(retries).toBeLessThanOrEqual(10 * seconds);
      expect(proxy.busiestSecond()).toBeLessThanOrEqual(11);
    } finally {
      await proxy.close();
    }
  }, 60_000);

  it('a server that is killed in the middle of exchanges, again and again, is seen by no caller', async () => {
    const { token } = await harness.build.platformToken();
    await start();
    const proxy = await createProxy(() => port);
    let over = false;
    let calls = 0;
    try {
      const worker = async () => {
        const { getAccessToken, invalidate } = source(proxy.tokenEndpoint, token);
        while (!over) {
          invalidate(await getAccessToken());
          calls += 1;
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
        await getAccessToken();
      };
      const workers = Promise.all(Array.from({ length: 20 }, worker));
      for (let round = 0; round < 3; round += 1) {
        await new Promise((resolve) => setTimeout(resolve, 500));
        await kill();
        await start();
      }
      over = true;
      await workers;
      expect(calls).toBeGreaterThan(100);
    } finally {
      over = true;
      await proxy.close();
    }
  }, 90_000);

  it.each([503, 429])(
    'a storm of %i is seen by no caller, and every Retry-After is kept: no storm comes back',
    async (status) => {
      const { token, id } = await harness.build.platformToken();
      const proxy = await createProxy(() => Number(new URL(harness.url).port));
      const [sources, callersEach, storm, retryAfter] = [50, 20, 6, 1];
      try {
        proxy.storm(storm, retryAfter, status);
        const tokens = await Promise.all(
          Array.from({ length: sources }, () => source(proxy.tokenEndpoint, token)).flatMap(
            ({ getAccessToken }) => Array.from({ length: callersEach }, () => getAccessToken()),
          ),
        );
        expect(new Set(tokens).size).toBe(sources);
        // The first of a minute have an event each; the rest are counted, and one event when it is over.
        await expect.poll(() => exchangesAudited(id)).toBeGreaterThan(policy.exchangeEventsAMinute);
        // A source comes at most once in each Retry-After, and once more with success.
        expect(proxy.busiestSecond()).toBeLessThanOrEqual(sources);
        expect(proxy.arrivals.length).toBeLessThanOrEqual(sources * (storm / retryAfter + 1));
        // The jitter on top of it: they do not come back all at once. No tenth of a second has half of them.
        const lasts = proxy.arrivals.slice(-sources);
        const together = Math.max(
          ...lasts.map((from) => lasts.filter((at) => at >= from && at < from + 100).length),
        );
        expect(together).toBeLessThan(sources / 2);
      } finally {
        await proxy.close();
      }
    },
    60_000,
  );
});
