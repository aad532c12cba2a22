import { inspect } from 'node:util';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createTokenSource, type FetchLike } from '../../../sdk/client/src/index.ts';
import { type Answer, busy, granted, refused, secret } from './support.ts';

/** Every way that we know of in which an object ends up in a log or a message. */
function printed(value: unknown): string {
  const texts = [
    inspect(value, { depth: Number.POSITIVE_INFINITY, showHidden: true, getters: true }),
    String(value),
    JSON.stringify(value) ?? '',
    JSON.stringify(Object.getOwnPropertyDescriptors(value)) ?? '',
  ];
  try {
    texts.push(inspect(structuredClone(value), { depth: Number.POSITIVE_INFINITY, showHidden: true }));
  } catch (error) {
    texts.push(inspect(error, { depth: Number.POSITIVE_INFINITY, showHidden: true }));
  }
  for (let error = value; error instanceof Error; error = error.cause) {
    texts.push(error.message, error.stack ?? '', JSON.stringify(error, Object.getOwnPropertyNames(error)));
  }
  return texts.join('\n');
}

const forms = [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64'), secret.slice(8)];

function expectNothingIn(value: unknown) {
  const text = printed(value);
  expect(text.length).toBeGreaterThan(20);
  for (const form of forms) expect(text).not.toContain(form);
  expect(text).not.toContain('eyJ.access');
}

/** As libraries do it: the request that failed is on the error, and in its message. */
const tellingError: Answer = () => {
  const request = { body: `subject_token=${secret}`, headers: { authorization: `Bearer ${secret}` } };
  const cause = Object.assign(new Error(`could not send ${secret}`), { request, code: `E_${secret}` });
  throw Object.assign(new Error(`POST subject_token=${encodeURIComponent(secret)} failed`, { cause }), {
    config: request,
    response: request,
    errors: [cause],
  });
};
const echo: Answer = () =>
  Response.json({ error: 'invalid_request', error_description: `not valid: ${secret}` }, { status: 400 });

const from = (answer: Answer, platformToken: string | (() => string | Promise<string>) = secret) => {
  const fetch: FetchLike = async () => answer();
  return createTokenSource({
    issuer: 'https://id.example.com',
    platformToken,
    fetch,
    origins: ['https://api.example.com'],
    random: () => 1_000,
  });
};

afterEach(() => vi.restoreAllMocks());

describe('the platform token is nowhere', () => {
  it('in a source, before and after an exchange', async () => {
    const source = from(granted(14_400));
    expectNothingIn(source);
    await source.getAccessToken();
    expectNothingIn(source);
    expectNothingIn({ nested: { source: [source] } });
    expect(JSON.stringify({ source })).toBe(
      '{"source":{"tokenEndpoint":"https://id.example.com/oauth/token"}}',
    );
  });

  it.each<[string, Answer]>([
    ['a refusal', refused()],
    ['a refusal of something else', refused('invalid_scope')],
    ['a refusal that repeats it', echo],
    ['a busy server', busy(503, { 'x-echo': secret })],
    ['a proxy that repeats it', () => new Response(secret, { status: 502, statusText: secret })],
    ['a fetch that tells everything', tellingError],
    ['something that is thrown and no error', () => Promise.reject(secret)],
    ['an answer that is the secret', granted(14_400, { access_token: secret })],
  ])('in the error of %s', async (_what, answer) => {
    const source = from(answer);
    for (const call of [source.getAccessToken(), source.fetch('https://api.example.com/x')]) {
      const error = await call.catch((caught) => caught);
      expect(error).toBeInstanceOf(Error);
      expectNothingIn(error);
    }
    expectNothingIn(source);
  });

  it('in the error of a request, encoded as it was sent', async () => {
    const strange = 'a secret/of+another & kind';
    const forms = [strange, encodeURIComponent(strange), 'a+secret%2Fof%2Banother+%26+kind'];
    for (const form of forms) {
      const failing = from(() => Promise.reject(new Error(`could not send subject_token=${form}`)), strange);
      const error = await failing.getAccessToken().catch((caught) => caught);
      expect(error.message).toContain('could not send subject_token=…');
      for (const known of forms) expect(printed(error)).not.toContain(known);
    }
  });

  it('in the error of a callback that knows it', async () => {
    const failing = from(granted(14_400), () =>
      Promise.reject(new Error(`found ${secret}, and may not use it`)),
    );
    expectNothingIn(await failing.getAccessToken().catch((caught) => caught));
  });

  it('on the console, whatever happens', async () => {
    const written: string[] = [];
    for (const stream of [process.stdout, process.stderr]) {
      vi.spyOn(stream, 'write').mockImplementation((chunk) => written.push(String(chunk)) > 0);
    }
    for (const method of ['log', 'info', 'warn', 'error', 'debug'] as const) {
      vi.spyOn(console, method).mockImplementation((...args) => void written.push(inspect(args)));
    }
    for (const answer of [granted(14_400), refused(), busy(), tellingError]) {
      await from(answer)
        .getAccessToken()
        .catch(() => {});
    }
    vi.restoreAllMocks();
    expect(written).toEqual([]);
  });
});
