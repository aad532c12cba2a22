import { deflateSync } from 'node:zlib';
import { type CryptoKey, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';
import { createVerifier, type VerifierOptions } from '../../../sdk/verifier/src/index.ts';

export const issuer = 'https://id.example.com';
export const audience = 'https://api.example.com/tms';

export type Issuer = Awaited<ReturnType<typeof createIssuer>>;

/** An issuer without a network, under a clock of one's own: counts what it is asked, and can be away. */
export async function createIssuer() {
  const state = {
    /** Milliseconds since the epoch. */
    now: 1_800_000_000_000,
    /** How it answers: a status, a failing network, or no answer until `release`. */
    away: undefined as undefined | 'network' | 'hangs' | number,
    revoked: new Set<number>(),
    listClaims: {} as JWTPayload,
    jwksHeaders: { 'cache-control': 'public, max-age=300' } as Record<string, string>,
    listHeaders: { 'cache-control': 'public, max-age=5' } as Record<string, string>,
  };
  const keys: { kid: string; privateKey: CryptoKey; jwk: object }[] = [];
  const requests: { url: string; ifNoneMatch: string | null; status: number }[] = [];
  let release = (): void => {};

  async function rotate(kid: string, { published = true } = {}) {
    const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
    const key = { kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' } };
    if (published) keys.unshift(key);
    return { ...key, publish: () => void keys.unshift(key) };
  }
  await rotate('first');

  const seconds = () => Math.floor(state.now / 1000);
  const sign = (claims: JWTPayload, typ: string, key = keys[0]) => {
    if (!key) throw new Error('no key');
    return new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: key.kid, typ }).sign(key.privateKey);
  };

  const signList = (uri: string) => {
    const bits = Buffer.alloc(16);
    for (const idx of state.revoked) bits.writeUInt8(bits.readUInt8(idx >> 3) | (1 << (idx & 7)), idx >> 3);
    const claims = {
      sub: uri,
      iat: seconds(),
      exp: seconds() + 3_600,
      ttl: 60,
      status_list: { bits: 1, lst: deflateSync(bits).toString('base64url') },
      ...state.listClaims,
    };
    return sign(claims, 'statuslist+jwt');
  };

  async function answer(url: string, ifNoneMatch: string | null): Promise<Response> {
    if (state.away === 'network') throw new TypeError('fetch failed');
    if (state.away === 'hangs') {
      await new Promise<void>((resolve) => {
        release = resolve;
      });
    }
    if (typeof state.away === 'number') return new Response('away', { status: state.away });
    const isJwks = url.endsWith('/oauth/jwks');
    const etag = isJwks ? `"${keys.map(({ kid }) => kid).join()}"` : `"${[...state.revoked].join()}"`;
    const headers = { etag, ...(isJwks ? state.jwksHeaders : state.listHeaders) };
    if (ifNoneMatch === etag) return new Response(null, { status: 304, headers });
    const body = isJwks ? JSON.stringify({ keys: keys.map(({ jwk }) => jwk) }) : await signList(url);
    return new Response(body, { headers });
  }

  const fakeFetch: typeof fetch = async (input, init) => {
    const url = String(input);
    const ifNoneMatch = new Headers(init?.headers).get('if-none-match');
    const request = { url, ifNoneMatch, status: 0 };
    requests.push(request);
    const response = await answer(url, ifNoneMatch);
    request.status = response.status;
    return response;
  };

  return {
    state,
    requests,
    fetch: fakeFetch,
    rotate,
    release: () => release(),
    dropKey: (kid: string) =>
      void keys.splice(
        keys.findIndex((key) => key.kid === kid),
        1,
      ),
    /** How often it was asked for the keys, or for lists. */
    count: (what: 'jwks' | 'status-lists') =>
      requests.filter(({ url }) => url.includes(`/oauth/${what}`)).length,
    /** Seconds go by. */
    pass: (time: number) => {
      state.now += time * 1000;
    },
    token: (claims: JWTPayload & { idx?: number; list?: string } = {}, key?: (typeof keys)[number]) => {
      const { idx = 7, list = '0', ...more } = claims;
      const all = {
        iss: issuer,
        sub: 'user',
        aud: audience,
        client_id: 'platform-tokens',
        iat: seconds(),
        exp: seconds() + 14_400,
        jti: 'one',
        scope: 'tms:read',
        status: { status_list: { idx, uri: `${issuer}/oauth/status-lists/${list}` } },
        ...more,
      };
      return sign(all, 'at+jwt', key);
    },
    verifier: (options: Partial<VerifierOptions> = {}) =>
      createVerifier({ issuer, audience, fetch: fakeFetch, clock: () => state.now, ...options }),
  };
}
