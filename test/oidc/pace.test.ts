import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { policy } from '../../config/policy.ts';
import { createPlatformToken } from '../../server/domain/platform-token.ts';
import { createPace } from '../../server/oidc/pace.ts';
import { createHarness, exchange, type Harness, postForm } from '../support/harness.ts';

const { refusalBurst, refusalsASecond, refusalWaitMs } = policy;
const everyMs = 1_000 / refusalsASecond;

describe('the pace', () => {
  const start = () => {
    const clock = { now: 1_000 };
    const waits: number[] = [];
    const pace = createPace({ now: () => clock.now, delay: async (ms) => void waits.push(ms) });
    return { clock, waits, pace };
  };

  it('holds nobody up where few are refused, at once or one after the other', async () => {
    const { clock, waits, pace } = start();
    for (let n = 0; n < refusalBurst; n += 1) await pace();
    for (let second = 0; second < 10; second += 1) {
      clock.now += 1_000;
      for (let n = 0; n < refusalBurst; n += 1) await pace();
    }
    for (let n = 0; n < 1_000; n += 1) {
      clock.now += everyMs;
      await pace();
    }
    expect(waits).toEqual([]);
  });

  it('lets so many leave in a second, in the order in which they came', async () => {
    const { waits, pace } = start();
    for (let n = 0; n < refusalBurst + refusalsASecond; n += 1) await pace();
    expect(waits).toHaveLength(refusalsASecond);
    for (const [index, wait] of waits.entries()) expect(wait).toBeCloseTo((index + 1) * everyMs);
  });

  it('lets nobody wait for long: of too many the rest is answered at once, and costs the others no turn', async () => {
    const { clock, waits, pace } = start();
    for (let n = 0; n < 5_000; n += 1) await pace();
    expect(waits).toHaveLength(refusalWaitMs / everyMs);
    expect(waits.at(-1)).toBeCloseTo(refusalWaitMs);
    clock.now += 1_000;
    await pace();
    expect(waits.at(-1)).toBeCloseTo(refusalWaitMs - 1_000 + everyMs);
  });
});

describe('waits for its turn in a storm:', () => {
  let harness: Harness;
  beforeAll(async () => {
    // All of it is one moment.
    harness = await createHarness({ now: () => 0 });
  });
  afterAll(() => harness.close());

  /** Whether it waited, behind more refusals than may leave at once. */
  async function waited(send: () => Promise<Response>): Promise<boolean> {
    const { url } = harness;
    for (let n = 0; harness.paced.length === 0; n += 1) {
      expect(n).toBeLessThanOrEqual(refusalBurst);
      expect((await exchange(url, 'ptk_noise')).status).toBe(400);
    }
    const before = harness.paced.length;
    await send();
    return harness.paced.length > before;
  }
  const unknown = () => createPlatformToken('ptk').token;

  it.each([
    ['a dead token', () => exchange(harness.url, unknown())],
    ['a request that is none', () => postForm(harness.url, { grant_type: 'nonsense' })],
    ['a method that the endpoint has not', () => fetch(`${harness.url}/oauth/token`)],
    [
      'a client secret',
      () =>
        postForm(harness.url, { grant_type: 'client_credentials', client_id: 'tms', client_secret: 'wrong' }),
    ],
    [
      'a token to revoke that nobody knows, which is answered 200',
      () =>
        fetch(`${harness.url}/oauth/revoke`, {
          method: 'POST',
          body: new URLSearchParams({ token: unknown() }),
        }),
    ],
  ])('%s', async (_what, send) => {
    expect(await waited(send)).toBe(true);
  });

  it('and nothing that is good', async () => {
    const { token } = await harness.build.platformToken();
    expect(await waited(() => exchange(harness.url, token))).toBe(false);
    const other = await harness.build.platformToken();
    const revoke = () =>
      fetch(`${harness.url}/oauth/revoke`, {
        method: 'POST',
        body: new URLSearchParams({ token: other.token }),
      });
    expect(await waited(revoke)).toBe(false);
  });
});
