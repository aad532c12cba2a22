import { describe, expect, it } from 'vitest';
import {
  createTokenSource,
  DeadTokenError,
  ExchangeRefusedError,
  type TokenSourceOptions,
} from '../../../sdk/client/src/index.ts';
import {
  type Answer,
  busy,
  createEndpoint,
  createFakeClock,
  endpoint,
  granted,
  refused,
  secret,
  settle,
  unreachable,
} from './support.ts';

const hours = 3_600_000;

function stage(script: Answer[], options: Partial<TokenSourceOptions> = {}) {
  const clock = createFakeClock();
  const { fetch, requests } = createEndpoint(clock, ...script);
  const source = createTokenSource({
    tokenEndpoint: endpoint,
    platformToken: secret,
    clock,
    fetch,
    random: () => 0.5,
    ...options,
  } as TokenSourceOptions);
  /** The outcome by name, without waiting for it. */
  const call = (signal?: AbortSignal) => {
    const seen: { token?: string; error?: Error } = {};
    source.getAccessToken({ signal }).then(
      (token) => {
        seen.token = token;
      },
      (error) => {
        seen.error = error;
      },
    );
    return seen;
  };
  return { clock, requests, source, call };
}

describe('options', () => {
  const good = { issuer: 'https://id.example.com', platformToken: secret };
  it.each<[string, object, RegExp]>([
    ['an http: issuer', { issuer: 'http://id.example.com' }, /issuer must be https:/],
    ['an http: issuer that only looks local', { issuer: 'http://127.0.0.1.example.com' }, /https:/],
    ['an http: token endpoint', { issuer: undefined, tokenEndpoint: 'http://id.example.com/t' }, /https:/],
    ['an http: origin', { origins: ['http://api.example.com'] }, /origins must be https:/],
    ['an origin with a path', { origins: ['https://api.example.com/tms'] }, /no path/],
    ['no issuer', { issuer: undefined }, /either issuer or tokenEndpoint/],
    ['both', { tokenEndpoint: endpoint }, /not both/],
    ['another scheme', { issuer: 'file:///etc/passwd' }, /https:/],
    ['credentials in a URL', { issuer: `https://x:${secret}@id.example.com` }, /no credentials/],
    ['a query', { issuer: 'https://id.example.com/?a' }, /no query/],
    ['an empty platform token', { platformToken: ' \n' }, /platformToken is empty/],
    ['no platform token', { platformToken: undefined }, /platformToken must be/],
    ['a misspelt option', { [secret]: 1 }, /none of issuer/],
    ['a wait that is no number', { maxWaitMs: '60' }, /maxWaitMs must be/],
    ['a wait that no timer takes', { maxWaitMs: Number.POSITIVE_INFINITY }, /maxWaitMs must be/],
  ])('%s is refused by name, and without its value', (_what, wrong, message) => {
    let error: unknown;
    try {
      createTokenSource({ ...good, ...wrong } as never);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(TypeError);
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).not.toContain(secret);
  });

  it.each([
    'http://localhost:3000',
    'http://127.0.0.1:3000',
    'http://[::1]:3000',
    'https://eu.example.com/idm/',
  ])('%s is taken, with the token endpoint below it', (issuer) => {
    const { tokenEndpoint } = createTokenSource({ ...good, issuer }).toJSON();
    expect(tokenEndpoint).toBe(`${issuer.replace(/\/$/, '')}/oauth/token`);
  });
});

describe('the exchange', () => {
  it('is asked for at the first call, as RFC 8693 has it, and never before', async () => {
    const { requests, source } = stage([granted(14_400)], { scope: 'read', subjectTokenType: 'urn:x' });
    await settle();
    expect(requests).toHaveLength(0);
    expect(await source.getAccessToken()).toMatch(/^eyJ\.access/);
    expect(Object.fromEntries(requests[0]?.form ?? [])).toEqual({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token: secret,
      subject_token_type: 'urn:x',
      scope: 'read',
    });
    expect(requests[0]?.init).toMatchObject({ method: 'POST', redirect: 'manual' });
  });

  it('is one for a thousand callers, and its token serves those that follow', async () => {
    const { requests, source } = stage([granted(14_400)]);
    const tokens = await Promise.all(Array.from({ length: 1_000 }, () => source.getAccessToken()));
    tokens.push(await source.getAccessToken());
    expect(new Set(tokens).size).toBe(1);
    expect(requests).toHaveLength(1);
  });

  it('leaves no timer behind', async () => {
    const { clock, source } = stage([granted(14_400)]);
    await source.getAccessToken();
    await settle();
    expect(clock.sleepers()).toBe(0);
  });
});

describe('renewal', () => {
  it('goes on behind the calls while the old token is good', async () => {
    let answer: (response: Response) => void = () => {};
    const slow = () => new Promise<Response>((resolve) => (answer = resolve));
    const { clock, requests, source } = stage([granted(14_400), slow]);
    const first = await source.getAccessToken();
    await clock.advance(0.84 * 4 * hours);
    expect(await source.getAccessToken()).toBe(first);
    expect(requests).toHaveLength(1);
    await clock.advance(0.02 * 4 * hours);
    for (let calls = 0; calls < 100; calls += 1) expect(await source.getAccessToken()).toBe(first);
    await settle();
    expect(requests).toHaveLength(2);
    answer((await granted(14_400)()) as Response);
    await settle();
    expect(await source.getAccessToken()).not.toBe(first);
    expect(requests).toHaveLength(2);
  });

  it('is spread over 80 to 90 % of the life by many sources that began together', async () => {
    const at = await Promise.all(
      Array.from({ length: 500 }, async () => {
        const { clock, requests, source } = stage([granted(14_400)], { random: Math.random });
        await source.getAccessToken();
        const start = clock.now();
        while (requests.length === 1) {
          await clock.advance(60_000);
          void source.getAccessToken();
        }
        return ((requests[1]?.at ?? 0) - start) / (4 * hours);
      }),
    );
    expect(Math.min(...at)).toBeGreaterThanOrEqual(0.8);
    expect(Math.max(...at)).toBeLessThanOrEqual(0.9 + 1 / 240);
    // Each tenth of the window has its share: 50 on average, and 15 only once in many millions of runs.
    const tenths = Array.from({ length: 10 }, (_, index) => {
      const from = 0.8 + index / 100;
      return at.filter((share) => share - 1 / 480 >= from && share - 1 / 480 < from + 0.01).length;
    });
    expect(Math.min(...tenths)).toBeGreaterThan(15);
    expect(Math.max(...tenths)).toBeLessThan(110);
  }, 60_000);

  it('that fails is told, is seen by no caller, and is paced', async () => {
    const told: Error[] = [];
    const { clock, requests, source } = stage([granted(14_400), busy(), unreachable, granted(14_400)], {
      onRenewalFailed: (error) => {
        told.push(error);
        throw new Error('a listener that breaks');
      },
    });
    const first = await source.getAccessToken();
    await clock.advance(0.86 * 4 * hours);
    const atOnce = await Promise.all(Array.from({ length: 1_000 }, () => source.getAccessToken()));
    expect(new Set(atOnce)).toEqual(new Set([first]));
    for (let calls = 0; calls < 1_000; calls += 1) {
      expect(await source.getAccessToken()).toBe(first);
      await settle();
    }
    expect(requests).toHaveLength(2);
    expect(clock.sleepers()).toBe(0);
    await clock.advance(1_000);
    await source.getAccessToken();
    await clock.advance(1_000);
    await source.getAccessToken();
    await settle();
    expect(await source.getAccessToken()).not.toBe(first);
    expect(told.map(({ name, message }) => `${name}: ${message}`)).toEqual([
      'TemporaryError: no access token for now: the token endpoint answered 503',
      expect.stringMatching(/^TemporaryError: .*ECONNREFUSED/),
    ]);
  });

  it('of a token that died leaves the access token in use to its end, and then says so', async () => {
    const told: string[] = [];
    const { clock, requests, source } = stage([granted(14_400), refused()], {
      onRenewalFailed: ({ name }) => void told.push(name),
    });
    const first = await source.getAccessToken();
    await clock.advance(0.86 * 4 * hours);
    for (let second = 0; second < 120; second += 1) {
      expect(await source.getAccessToken()).toBe(first);
      await clock.advance(1_000);
    }
    expect(requests).toHaveLength(3);
    expect(told).toEqual(['DeadTokenError', 'DeadTokenError']);
    await clock.advance(0.2 * 4 * hours);
    await expect(source.getAccessToken()).rejects.toThrow(DeadTokenError);
  });

  it('comes at once where the machine was asleep past the end', async () => {
    const { clock, requests, source } = stage([granted(14_400)]);
    const first = await source.getAccessToken();
    clock.suspend(5 * hours);
    expect(await source.getAccessToken()).not.toBe(first);
    expect(requests).toHaveLength(2);
  });
});

describe('a passing fault', () => {
  it.each<[string, Answer]>([
    ['503', busy(503)],
    ['429', busy(429)],
    ['500', busy(500)],
    ['a network error', unreachable],
    ['the page of a proxy', () => new Response('<html>', { headers: { 'content-type': 'text/html' } })],
  ])('%s is seen by no caller where waiting is enough', async (_what, answer) => {
    const { clock, requests, call } = stage([answer, answer, answer, granted(14_400)]);
    const callers = Array.from({ length: 1_000 }, () => call());
    await clock.advance(60_000);
    expect(new Set(callers.map(({ token }) => typeof token))).toEqual(new Set(['string']));
    // 0.5 of 500, 1 000 and 2 000 ms.
    expect(requests.map(({ at }) => at - 1_000)).toEqual([0, 250, 750, 1_750]);
  });

  it.each<[string, Record<string, string>, number]>([
    ['seconds', { 'retry-after': '7' }, 7_000],
    [
      'a date, by the server’s clock',
      { 'retry-after': 'Wed, 21 Oct 2015 07:28:09 GMT', date: 'Wed, 21 Oct 2015 07:28:00 GMT' },
      9_000,
    ],
    ['a date, by the own clock', { 'retry-after': 'Tue, 01 Jan 2030 00:00:05 GMT' }, 5_000],
    ['a date in the past', { 'retry-after': 'Wed, 21 Oct 2015 07:28:00 GMT' }, 0],
    ['nonsense', { 'retry-after': '-1' }, 0],
    ['more nonsense', { 'retry-after': '1e3' }, 0],
  ])('waits as Retry-After says: %s', async (_what, headers, expected) => {
    const { clock, requests, call } = stage([busy(503, headers), granted(14_400)]);
    call();
    await clock.advance(60_000);
    // The jitter comes on top.
    expect((requests[1]?.at ?? 0) - 1_000).toBe(expected + 250);
  });

  it('that asks for more patience than there is fails at once, and no call makes a request before its time', async () => {
    const { clock, requests, call } = stage([busy(503, { 'retry-after': '86400' }), granted(14_400)]);
    const first = call();
    await clock.advance(0);
    expect(first.error).toMatchObject({ name: 'TemporaryError', retryAfterMs: 300_250 });
    for (let minute = 0; minute < 3; minute += 1) {
      const early = call();
      await clock.advance(60_000);
      expect(early.error?.name).toBe('TemporaryError');
    }
    expect(requests).toHaveLength(1);
    const late = call();
    await clock.advance(130_000);
    expect(late.error?.name).toBe('TemporaryError');
    call();
    await clock.advance(60_000);
    expect(requests).toHaveLength(2);
  });

  it('that stays is a TemporaryError with its cause, within the bound, after few requests', async () => {
    const { clock, requests, call } = stage([unreachable], { maxWaitMs: 30_000, random: () => 0 });
    const callers = Array.from({ length: 100 }, () => call());
    await clock.advance(29_000);
    expect(callers.filter(({ error }) => error)).toHaveLength(0);
    await clock.advance(1_000);
    for (const { error } of callers) {
      expect(error).toMatchObject({ name: 'TemporaryError', cause: { code: 'ECONNREFUSED' } });
    }
    // Chance at its worst: a request each 100 ms.
    expect(requests.length).toBeLessThanOrEqual(301);
    expect(clock.sleepers()).toBe(0);
  });

  it('counts on through calls that give up: the pauses stay long', async () => {
    const { clock, requests, call } = stage([busy()], { maxWaitMs: 1_000, random: () => 0.99 });
    for (let second = 0; second < 600; second += 1) {
      call();
      await clock.advance(1_000);
    }
    // 0.5, 1, 2, 4, 8 and then 10 s: 6 requests in the first 16 s, and 59 in the other 584 s.
    expect(requests.length).toBeLessThanOrEqual(66);
    expect(requests.length).toBeGreaterThan(40);
  });

  it('is what a platformToken function meets that throws or hangs', async () => {
    let reads = 0;
    const { clock, requests, call } = stage([granted(14_400)], {
      platformToken: async () => {
        reads += 1;
        if (reads === 1) throw new TypeError(`vault is sealed, it holds ${secret}`);
        if (reads === 2) return new Promise<string>(() => {});
        return ` ${secret}\n`;
      },
    });
    const caller = call();
    await clock.advance(30_000);
    expect(caller.token).toMatch(/^eyJ/);
    expect(requests.map(({ form }) => form.get('subject_token'))).toEqual([secret]);
    const sealed = stage([granted(14_400)], {
      platformToken: () => Promise.reject(new TypeError(`vault is sealed, it holds ${secret}`)),
    });
    const failing = sealed.call();
    await sealed.clock.advance(60_000);
    expect(failing.error?.message).toContain(
      'the platform token could not be read: vault is sealed, it holds …',
    );
  });

  it('is no answer that ends before it arrives, again and again', async () => {
    const { clock, requests, call } = stage([granted(0.001)], { maxWaitMs: 10_000 });
    const slow = stage([
      async () => {
        await slow.clock.sleep(2_000);
        return granted(1)();
      },
    ]);
    const caller = slow.call();
    await slow.clock.advance(60_000);
    expect(caller.error).toMatchObject({
      cause: { message: 'the access token had ended before it arrived' },
    });
    expect(slow.requests.length).toBeLessThan(15);
    expect(call()).toBeDefined();
    await clock.advance(10_000);
    expect(requests.length).toBeLessThan(15);
  });

  it('a platformToken function that gives no token is no fault that passes', async () => {
    for (const given of ['', undefined, 7]) {
      const { source, requests } = stage([granted(14_400)], { platformToken: () => given as string });
      await expect(source.getAccessToken()).rejects.toThrow(TypeError);
      expect(requests).toHaveLength(0);
    }
  });
});

describe('a dead token', () => {
  it('costs a thousand callers one request, and those of the next minute none', async () => {
    const { clock, requests, source } = stage([refused()]);
    for (let round = 0; round < 3; round += 1) {
      const outcomes = await Promise.allSettled(Array.from({ length: 1_000 }, () => source.getAccessToken()));
      const reasons = outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason);
      expect(reasons.every((reason) => reason instanceof DeadTokenError)).toBe(true);
      expect(new Set(reasons).size).toBe(1_000);
      await clock.advance(19_000);
    }
    expect(requests).toHaveLength(1);
    await clock.advance(3_000);
    await expect(source.getAccessToken()).rejects.toThrow(
      'does not accept the platform token: invalid_request',
    );
    expect(requests).toHaveLength(2);
  });

  it('is left behind at once when the callback has another, and comes alive after the hold', async () => {
    let token = secret;
    const { clock, requests, source } = stage([refused(), granted(14_400)], { platformToken: () => token });
    await expect(source.getAccessToken()).rejects.toThrow(DeadTokenError);
    token = `${secret}x`;
    expect(await source.getAccessToken()).toMatch(/^eyJ/);
    expect(requests.map(({ form }) => form.get('subject_token'))).toEqual([secret, `${secret}x`]);
    const reactivated = stage([refused(), granted(14_400)], { deadTokenHoldMs: 5_000 });
    await expect(reactivated.source.getAccessToken()).rejects.toThrow(DeadTokenError);
    await reactivated.clock.advance(5_000);
    expect(await reactivated.source.getAccessToken()).toMatch(/^eyJ/);
    expect(clock.sleepers()).toBe(0);
  });

  it('is told from a request that asks for too much', async () => {
    const { requests, source } = stage([refused('invalid_scope')]);
    const error = await source.getAccessToken().catch((caught) => caught);
    expect(error).toBeInstanceOf(ExchangeRefusedError);
    expect(error).not.toBeInstanceOf(DeadTokenError);
    expect(error.code).toBe('invalid_scope');
    await expect(source.getAccessToken()).rejects.toThrow('invalid_scope');
    expect(requests).toHaveLength(1);
  });
});

describe('a signal', () => {
  it('ends the wait of its caller alone, in a request and between requests', async () => {
    let answer: (response: Response) => void = () => {};
    const slow = () => new Promise<Response>((resolve) => (answer = resolve));
    const { clock, requests, call } = stage([slow, granted(14_400)]);
    const [first, second] = [new AbortController(), new AbortController()];
    const [leaving, later, staying] = [call(first.signal), call(second.signal), call()];
    await settle();
    first.abort(new Error('enough'));
    await settle();
    expect(leaving.error?.message).toBe('enough');
    answer(new Response('', { status: 503, headers: { 'retry-after': '5' } }));
    await clock.advance(1_000);
    second.abort();
    await settle();
    expect(later.error?.name).toBe('AbortError');
    expect(staying).toEqual({});
    await clock.advance(10_000);
    expect(staying.token).toMatch(/^eyJ/);
    expect(requests).toHaveLength(2);
    expect(requests[0]?.init.signal?.aborted).toBe(false);
  });

  it('that all callers give leaves no timer, and the answer to the next caller', async () => {
    let answer: (response: Response) => void = () => {};
    const slow = () => new Promise<Response>((resolve) => (answer = resolve));
    const { clock, requests, call } = stage([slow]);
    const aborter = new AbortController();
    const callers = Array.from({ length: 10 }, () => call(aborter.signal));
    await settle();
    aborter.abort();
    await settle();
    expect(callers.every(({ error }) => error?.name === 'AbortError')).toBe(true);
    answer((await granted(14_400)()) as Response);
    await settle();
    expect(clock.sleepers()).toBe(0);
    const next = call();
    await settle();
    expect(next.token).toMatch(/^eyJ/);
    expect(requests).toHaveLength(1);
  });

  it('that is aborted before makes no request', async () => {
    const { requests, source } = stage([granted(14_400)]);
    await expect(source.getAccessToken({ signal: AbortSignal.abort() })).rejects.toThrow('aborted');
    expect(requests).toHaveLength(0);
  });
});

describe('invalidate', () => {
  it('gives up the present token, once for all who were refused with it', async () => {
    const { requests, source } = stage([granted(14_400)]);
    const first = await source.getAccessToken();
    const tokens = await Promise.all(
      Array.from({ length: 100 }, async () => {
        source.invalidate(first);
        return source.getAccessToken();
      }),
    );
    expect(new Set(tokens).size).toBe(1);
    expect(tokens[0]).not.toBe(first);
    source.invalidate(first);
    expect(await source.getAccessToken()).toBe(tokens[0]);
    expect(requests).toHaveLength(2);
  });

  it('makes no storm where an API refuses every token', async () => {
    const { clock, requests, source } = stage([granted(14_400)]);
    for (let call = 0; call < 6_000; call += 1) {
      source.invalidate(await source.getAccessToken());
      if (call % 10 === 0) await clock.advance(1_000);
    }
    // In 600 s: at 0, 1, 3, 7, 15, 31 and 63 s and then each 60 s, and the first.
    expect(requests.length).toBeLessThanOrEqual(1 + 7 + 9);
    expect(requests.length).toBeGreaterThan(10);
  });
});
