import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { VerificationError } from '../../../sdk/verifier/src/index.ts';
import { audience, createIssuer, type Issuer, issuer } from './issuer.ts';

let remote: Issuer;
beforeEach(async () => {
  remote = await createIssuer();
});

/** The rule that a token broke. */
const ruleOf = (verified: Promise<unknown>): Promise<string> =>
  verified.then(
    () => 'accepted',
    (error: unknown) => {
      if (error instanceof VerificationError) return error.rule;
      throw error;
    },
  );
/** Lets what runs in the background end. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 20));

describe('the first token', () => {
  it('is what the issuer is first asked for: nothing is at construction', async () => {
    const verifier = remote.verifier();
    await settle();
    expect(remote.requests).toEqual([]);
    await verifier.verify(await remote.token());
    expect(remote.requests.map(({ url }) => url)).toEqual([
      `${issuer}/oauth/jwks`,
      `${issuer}/oauth/status-lists/0`,
    ]);
  });

  it('causes one request a document, however many callers wait for it', async () => {
    const verifier = remote.verifier();
    const jwt = await remote.token();
    await Promise.all(Array.from({ length: 1_000 }, () => verifier.verify(jwt)));
    expect([remote.count('jwks'), remote.count('status-lists')]).toEqual([1, 1]);
  });

  it('is answered 503 while the keys cannot be had, by every caller after one request', async () => {
    remote.state.away = 'network';
    const verifier = remote.verifier({ onIssuerUnavailable: 'accept' });
    const jwt = await remote.token();
    const rules = await Promise.all(Array.from({ length: 100 }, () => ruleOf(verifier.verify(jwt))));
    expect(new Set(rules)).toEqual(new Set(['keys_unavailable']));
    expect(remote.count('jwks')).toBe(1);
    remote.state.away = undefined;
    remote.pass(1);
    expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
  });

  it('waits no longer than the timeout for an issuer that does not answer', async () => {
    const hanging: typeof fetch = (_input, init) =>
      new Promise((_resolve, reject) =>
        init?.signal?.addEventListener('abort', () => reject(init.signal?.reason)),
      );
    const verifier = remote.verifier({ fetch: hanging, timeout: 50 });
    const before = Date.now();
    expect(await ruleOf(verifier.verify(await remote.token()))).toBe('keys_unavailable');
    expect(Date.now() - before).toBeLessThan(2_000);
  });

  it('waits no longer for a fetch that does not heed its signal, and asks again', async () => {
    let deaf = true;
    const verifier = remote.verifier({
      fetch: (...args) => (deaf ? new Promise(() => {}) : remote.fetch(...args)),
      timeout: 50,
    });
    const jwt = await remote.token();
    expect(await ruleOf(verifier.verify(jwt))).toBe('keys_unavailable');
    deaf = false;
    remote.pass(1);
    expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
  });

  it.each([
    ['a page', '<html>'],
    ['no key set', '{"keys":{}}'],
    ['too long', JSON.stringify({ keys: [], padding: 'x'.repeat(300_000) })],
  ])('is answered 503 where the key set is %s', async (_what, body) => {
    const verifier = remote.verifier({ fetch: async () => new Response(body) });
    expect(await ruleOf(verifier.verify(await remote.token()))).toBe('keys_unavailable');
  });

  it('follows no redirection', async () => {
    let redirect: unknown;
    const verifier = remote.verifier({
      fetch: async (_input, init) => {
        redirect = init?.redirect;
        return new Response(null, { status: 302, headers: { location: 'https://evil.example.com' } });
      },
    });
    expect(await ruleOf(verifier.verify(await remote.token()))).toBe('keys_unavailable');
    expect(redirect).toBe('manual');
  });
});

describe('keys', () => {
  const quiet = { statusLists: 'ignore' } as const;

  it('are kept for their max-age, and asked for in the background in its last quarter', async () => {
    const verifier = remote.verifier(quiet);
    const jwt = await remote.token();
    await verifier.verify(jwt);
    remote.pass(224);
    await verifier.verify(jwt);
    await settle();
    expect(remote.count('jwks')).toBe(1);
    remote.pass(2);
    remote.state.away = 'hangs';
    // Nobody waits for an issuer that is slow.
    expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
    expect(remote.count('jwks')).toBe(2);
    remote.state.away = undefined;
    remote.release();
    await settle();
    expect(remote.requests.at(-1)).toEqual({
      url: `${issuer}/oauth/jwks`,
      ifNoneMatch: '"first"',
      status: 304,
    });
    remote.pass(220);
    await verifier.verify(jwt);
    await settle();
    expect(remote.count('jwks')).toBe(2);
  });

  it('are asked for before a token is verified where they are no longer fresh', async () => {
    const verifier = remote.verifier(quiet);
    const jwt = await remote.token();
    await verifier.verify(jwt);
    remote.pass(3_000);
    await remote.rotate('second');
    remote.dropKey('first');
    expect(await ruleOf(verifier.verify(jwt))).toBe('kid');
  });

  it('are as old as the caches on the way say', async () => {
    remote.state.jwksHeaders = { 'cache-control': 'public, max-age=300', age: '280' };
    const verifier = remote.verifier(quiet);
    const jwt = await remote.token();
    await verifier.verify(jwt);
    remote.pass(21);
    await verifier.verify(jwt);
    expect(remote.count('jwks')).toBe(2);
  });

  it('are kept for a moment where nothing may be, so that a request is not two', async () => {
    remote.state.jwksHeaders = { 'cache-control': 'no-store' };
    const verifier = remote.verifier(quiet);
    const jwt = await remote.token();
    for (let i = 0; i < 50; i += 1) await verifier.verify(jwt);
    expect(remote.count('jwks')).toBe(1);
  });

  it('are asked for once when a token has a new kid, and the token is accepted', async () => {
    const verifier = remote.verifier(quiet);
    await verifier.verify(await remote.token());
    await remote.rotate('second');
    const jwt = await remote.token();
    const rules = await Promise.all(Array.from({ length: 500 }, () => ruleOf(verifier.verify(jwt))));
    expect(new Set(rules)).toEqual(new Set(['accepted']));
    expect(remote.count('jwks')).toBe(2);
  });

  it('are asked for no more than once in the cool-down under a flood of kids that nobody has', async () => {
    const verifier = remote.verifier(quiet);
    const good = await remote.token();
    await verifier.verify(good);
    const strangers = await Promise.all(
      Array.from({ length: 200 }, async (_, i) =>
        remote.token(
          {},
          { ...(await remote.rotate(`stranger-${i % 5}`, { published: false })), kid: `random-${i}` },
        ),
      ),
    );
    for (const jwt of strangers) {
      expect(await ruleOf(verifier.verify(jwt))).toBe('kid');
      remote.pass(0.024);
    }
    expect(remote.count('jwks')).toBe(2);
    remote.pass(1);
    expect(await ruleOf(verifier.verify(strangers[0] ?? ''))).toBe('kid');
    expect(remote.count('jwks')).toBe(3);
    expect(await ruleOf(verifier.verify(good))).toBe('accepted');
  });

  it('of an emergency are known after 5 seconds, though strangers spend the cool-down all the time', async () => {
    const verifier = remote.verifier(quiet);
    await verifier.verify(await remote.token());
    const stranger = await remote.token({}, await remote.rotate('stranger', { published: false }));
    expect(await ruleOf(verifier.verify(stranger))).toBe('kid');
    await remote.rotate('second');
    const jwt = await remote.token();
    for (let second = 0; second < 5; second += 1) {
      expect(await ruleOf(verifier.verify(jwt))).toBe('kid');
      remote.pass(1);
      expect(await ruleOf(verifier.verify(stranger))).toBe('kid');
    }
    expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
  });

  it('that may be new are not called wrong while the issuer is away', async () => {
    const verifier = remote.verifier(quiet);
    await verifier.verify(await remote.token());
    await remote.rotate('second');
    const jwt = await remote.token();
    remote.state.away = 503;
    expect(await ruleOf(verifier.verify(jwt))).toBe('keys_unavailable');
    expect(await ruleOf(verifier.verify(jwt))).toBe('keys_unavailable');
    expect(remote.count('jwks')).toBe(2);
    remote.state.away = undefined;
    // A failure is no answer: it is repeated as soon as any other is.
    remote.pass(1);
    expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
  });

  it('are used for 24 hours while the issuer is away, then no longer, however it is configured', async () => {
    const verifier = remote.verifier({ ...quiet, onIssuerUnavailable: 'accept' });
    await verifier.verify(await remote.token());
    remote.state.away = 'network';
    for (let hour = 0; hour < 23; hour += 1) {
      remote.pass(3_600);
      expect(await ruleOf(verifier.verify(await remote.token()))).toBe('accepted');
      await settle();
    }
    remote.pass(3_601);
    expect(await ruleOf(verifier.verify(await remote.token()))).toBe('keys_unavailable');
  });

  it('are asked for ever more rarely while the issuer is away', async () => {
    const verifier = remote.verifier(quiet);
    await verifier.verify(await remote.token());
    remote.pass(300);
    remote.state.away = 503;
    const jwt = await remote.token();
    for (let second = 0; second < 600; second += 1) {
      expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
      await new Promise((resolve) => setImmediate(resolve));
      remote.pass(1);
    }
    expect(remote.count('jwks') - 1).toBeLessThan(30);
    expect(remote.count('jwks') - 1).toBeGreaterThan(15);
  });

  it('rotate without a token being refused, whenever a key is published before it signs', async () => {
    const verifier = remote.verifier(quiet);
    for (let round = 0; round < 5; round += 1) {
      const next = await remote.rotate(`round-${round}`, { published: false });
      const old = await remote.token();
      next.publish();
      remote.pass(360);
      for (const jwt of [old, await remote.token()])
        expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
    }
  });
});

describe('status lists', () => {
  it('are fresh for their ttl, not for the max-age of the caches before them', async () => {
    const verifier = remote.verifier();
    const jwt = await remote.token();
    await verifier.verify(jwt);
    remote.pass(44);
    await verifier.verify(jwt);
    await settle();
    expect(remote.count('status-lists')).toBe(1);
    remote.pass(2);
    await verifier.verify(jwt);
    await settle();
    expect(remote.count('status-lists')).toBe(2);
    expect(remote.requests.at(-1)).toMatchObject({ ifNoneMatch: '""', status: 304 });
  });

  it('refuse a token that was revoked, ttl seconds later at most', async () => {
    const verifier = remote.verifier();
    const jwt = await remote.token();
    await verifier.verify(jwt);
    remote.state.revoked.add(7);
    remote.pass(30);
    expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
    remote.pass(30);
    expect(await ruleOf(verifier.verify(jwt))).toBe('revoked');
    expect(await ruleOf(verifier.verify(await remote.token({ idx: 8 })))).toBe('accepted');
    remote.state.revoked.delete(7);
    remote.pass(60);
    expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
  });

  it('are not replaced by one that was signed before, which an instance without its database or a cache may have', async () => {
    const verifier = remote.verifier();
    const jwt = await remote.token();
    remote.state.revoked.add(7);
    remote.pass(1_000);
    expect(await ruleOf(verifier.verify(jwt))).toBe('revoked');
    remote.state.revoked.delete(7);
    remote.state.listClaims = { iat: remote.state.now / 1000 - 900, exp: remote.state.now / 1000 + 2_700 };
    for (let minute = 0; minute < 3; minute += 1) {
      remote.pass(61);
      expect(await ruleOf(verifier.verify(jwt))).toBe('revoked');
    }
    expect(remote.count('status-lists')).toBe(4);
    // What it alone refuses is refused too: it may be the issuer's clock that was set back.
    remote.state.revoked.add(8);
    remote.pass(61);
    expect(await ruleOf(verifier.verify(await remote.token({ idx: 8 })))).toBe('revoked');
    remote.state.revoked.clear();
    remote.state.revoked.add(9);
    remote.state.listClaims = {};
    remote.pass(61);
    expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
  });

  it('are used until their exp while the issuer is away, then the token is answered 503', async () => {
    const verifier = remote.verifier();
    const jwt = await remote.token();
    remote.state.revoked.add(9);
    const revoked = await remote.token({ idx: 9 });
    await verifier.verify(jwt);
    remote.state.away = 'network';
    remote.pass(3_500);
    expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
    expect(await ruleOf(verifier.verify(revoked))).toBe('revoked');
    remote.pass(200);
    expect(await ruleOf(verifier.verify(jwt))).toBe('status_list_unavailable');
  });

  it('are not missed by those who choose so, but what was revoked stays refused', async () => {
    const verifier = remote.verifier({ onIssuerUnavailable: 'accept' });
    const jwt = await remote.token();
    remote.state.revoked.add(9);
    const revoked = await remote.token({ idx: 9 });
    await verifier.verify(jwt);
    for (const away of ['network', 503, 429] as const) {
      remote.state.away = away;
      remote.pass(3_700);
      expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
      expect(await ruleOf(verifier.verify(revoked))).toBe('revoked');
    }
    expect(await ruleOf(verifier.verify(await remote.token({ list: 'never-seen' })))).toBe('accepted');
  });

  it.each([
    ['of another uri', { sub: `${issuer}/oauth/status-lists/1` }],
    ['expired', { exp: 1_700_000_000 }],
    ['no list', { status_list: {} }],
  ])('that are %s are an error of the issuer, not its absence: nothing is let in', async (_what, claims) => {
    remote.state.listClaims = claims;
    const verifier = remote.verifier({ onIssuerUnavailable: 'accept' });
    expect(await ruleOf(verifier.verify(await remote.token()))).toBe('status_list_unavailable');
  });

  it('that cannot be used replace nothing', async () => {
    const verifier = remote.verifier();
    const jwt = await remote.token();
    await verifier.verify(jwt);
    remote.state.listClaims = { sub: 'x' };
    remote.state.revoked.add(1);
    remote.pass(60);
    expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
  });

  it('are verified by a key that is as new as they are', async () => {
    const verifier = remote.verifier();
    const jwt = await remote.token();
    await verifier.verify(jwt);
    await remote.rotate('second');
    remote.state.revoked.add(7);
    remote.pass(60);
    expect(await ruleOf(verifier.verify(jwt))).toBe('revoked');
  });

  it('are kept up to a number, those used last', async () => {
    const verifier = remote.verifier({ statusListLimit: 3 });
    const ask = async (list: number) => verifier.verify(await remote.token({ list: String(list) }));
    for (const list of [0, 1, 2, 0, 3, 0]) await ask(list);
    expect(remote.count('status-lists')).toBe(4);
    await ask(1);
    expect(remote.count('status-lists')).toBe(5);
  });

  it('are asked for only by tokens that the issuer signed', async () => {
    const verifier = remote.verifier();
    const foreign = await remote.rotate('first', { published: false });
    expect(await ruleOf(verifier.verify(await remote.token({}, foreign)))).toBe('signature');
    expect(remote.count('status-lists')).toBe(0);
  });

  it('can be required, and left alone', async () => {
    const without = await remote.token({ status: undefined });
    expect(await ruleOf(remote.verifier().verify(without))).toBe('accepted');
    expect(await ruleOf(remote.verifier({ statusLists: 'require' }).verify(without))).toBe('status_claim');
    remote.state.revoked.add(7);
    expect(await ruleOf(remote.verifier({ statusLists: 'ignore' }).verify(await remote.token()))).toBe(
      'accepted',
    );
    expect(remote.count('status-lists')).toBe(0);
  });
});

describe('a clock that is set back', () => {
  const hours = 5 * 3_600;

  it('makes no copy fresh for longer', async () => {
    remote.pass(hours);
    const verifier = remote.verifier();
    await verifier.verify(await remote.token());
    remote.pass(-hours);
    const jwt = await remote.token();
    remote.state.revoked.add(7);
    remote.pass(60);
    expect(await ruleOf(verifier.verify(jwt))).toBe('revoked');
    expect([remote.count('jwks'), remote.count('status-lists')]).toEqual([2, 2]);
  });

  it('makes no pause longer, after a failure or after an unknown kid', async () => {
    remote.pass(hours);
    const verifier = remote.verifier();
    const stranger = await remote.token({}, await remote.rotate('stranger', { published: false }));
    remote.state.away = 'network';
    expect(await ruleOf(verifier.verify(stranger))).toBe('keys_unavailable');
    remote.pass(-hours);
    remote.state.away = undefined;
    const jwt = await remote.token();
    expect(await ruleOf(verifier.verify(jwt))).toBe('accepted');
    remote.pass(hours);
    expect(await ruleOf(verifier.verify(stranger))).toBe('kid');
    remote.pass(-hours);
    await remote.rotate('second');
    expect(await ruleOf(verifier.verify(await remote.token()))).toBe('accepted');
  });
});

describe('on Cloudflare Workers, where requests must not wait for each other', () => {
  beforeEach(() => vi.stubGlobal('navigator', { userAgent: 'Cloudflare-Workers' }));
  afterEach(() => vi.unstubAllGlobals());

  it('each of the first ones asks for itself, and none of those after them', async () => {
    const verifier = remote.verifier();
    const jwt = await remote.token();
    await Promise.all(Array.from({ length: 10 }, () => verifier.verify(jwt)));
    expect(remote.count('jwks')).toBe(10);
    await Promise.all(Array.from({ length: 10 }, () => verifier.verify(jwt)));
    expect(remote.count('jwks')).toBe(10);
  });

  it('the background asks once a second, though its requests are cut off', async () => {
    const verifier = remote.verifier({ statusLists: 'ignore' });
    const jwt = await remote.token();
    await verifier.verify(jwt);
    remote.pass(230);
    remote.state.away = 'hangs';
    for (let i = 0; i < 50; i += 1) await verifier.verify(jwt);
    expect(remote.count('jwks')).toBe(2);
    remote.pass(1);
    await verifier.verify(jwt);
    expect(remote.count('jwks')).toBe(3);
  });

  it('an unknown kid is asked for once in the cool-down', async () => {
    const verifier = remote.verifier({ statusLists: 'ignore' });
    await verifier.verify(await remote.token());
    const stranger = await remote.token({}, await remote.rotate('stranger', { published: false }));
    await Promise.all(Array.from({ length: 10 }, () => ruleOf(verifier.verify(stranger))));
    expect(remote.count('jwks')).toBe(2);
  });
});

describe('createVerifier', () => {
  it.each([
    ['an issuer on plain HTTP', { issuer: 'http://id.example.com' }, /issuer must be https/],
    ['an issuer that is no URL', { issuer: 'id.example.com' }, /issuer is no URL/],
    [
      'no by a text',
      { issuer: 'http://id.example.com', allowHttp: 'false' as never },
      /issuer must be https/,
    ],
    ['keys on plain HTTP', { jwksUri: 'http://id.example.com/jwks' }, /jwksUri must be https/],
    ['no audience', { audience: '' }, /audience/],
    ['HMAC', { algorithms: ['HS256' as never] }, /algorithms/],
    ['no signature', { algorithms: ['none' as never] }, /algorithms/],
    ['no algorithm', { algorithms: [] }, /algorithms/],
    ['several audiences', { audience: [audience] as never }, /audience/],
    ['a name that is misspelt', { requiredScope: ['admin'] } as object, /none of issuer, audience/],
    ['another word for check', { statusLists: 'required' as never }, /check, require, ignore/],
    ['another word for reject', { onIssuerUnavailable: 'fail' as never }, /reject, accept/],
    ['scopes in one text', { requiredScopes: 'tms:read' as never }, /array of scopes/],
    ['two scopes in one', { requiredScopes: ['tms:read tms:write'] }, /array of scopes/],
    // From an environment variable that is not set.
    ['a leeway that is no number', { clockTolerance: Number('x') }, /clockTolerance/],
    ['a leeway without end', { clockTolerance: Number.POSITIVE_INFINITY }, /clockTolerance/],
    ['a leeway as text', { clockTolerance: '60' as never }, /clockTolerance/],
    ['a negative age', { maxStale: -1 }, /maxStale/],
    ['a size that is no number', { tokenSizeLimit: Number.NaN }, /tokenSizeLimit/],
  ])('refuses %s', (_what, options, message) => {
    expect(() => remote.verifier(options)).toThrow(message);
  });

  it('lets nobody in by an option of one call that is misspelt', async () => {
    const verified = remote.verifier().verify(await remote.token(), { requiredScope: ['admin'] } as object);
    await expect(verified).rejects.toThrow(/none of requiredScopes/);
  });

  it('allows plain HTTP on this machine, and where it is asked to', () => {
    remote.verifier({ issuer: 'http://localhost:3000' });
    remote.verifier({ issuer: 'http://id:3000', allowHttp: true });
  });
});
