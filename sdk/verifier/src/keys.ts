import { type CryptoKey, importJWK, type JWK } from 'jose';
import { invalidToken, type Refusal, unavailable } from './errors.ts';
import {
  createRemoteDocument,
  isCloudflareWorker,
  isWithin,
  type RemoteDocument,
  type RemoteDocumentOptions,
  readFreshness,
} from './remote-document.ts';

/** What an access token may be signed with (RFC 8725 §3.1): never `none`, and nothing that a public key could make. */
export const supportedAlgorithms = ['ES256', 'RS256', 'PS256', 'EdDSA', 'Ed25519'] as const;
export type Algorithm = (typeof supportedAlgorithms)[number];

export interface KeySource {
  /** The key of the issuer. @throws {Refusal} */
  find(kid: string, alg: Algorithm): Promise<CryptoKey>;
}

export interface KeySourceOptions
  extends Pick<RemoteDocumentOptions<never>, 'url' | 'clock' | 'fetch' | 'timeout'> {
  /** How long keys may be used while the issuer is away, in seconds. */
  readonly maxStale: number;
  /** Between two requests for unknown `kid`s that were answered, in seconds. */
  readonly cooldown: number;
}

interface Keys {
  readonly byKid: ReadonlyMap<string, JWK>;
  /** By `alg` and `kid`. */
  readonly imported: Map<string, CryptoKey>;
}

const sizeLimit = 256 * 1024;
const keyLimit = 100;
/** Where the answer says nothing, and within what it is taken at its word, in seconds. */
const defaultFreshness = 300;
const leastFreshness = 5;
const mostFreshness = 24 * 60 * 60;

/** The issuer's JWK Set (RFC 7517 §5). */
export function createKeySource({ maxStale, cooldown, ...document }: KeySourceOptions): KeySource {
  const { clock } = document;
  const keySet: RemoteDocument<Keys> = createRemoteDocument({
    ...document,
    accept: 'application/jwk-set+json, application/json',
    sizeLimit,
    parse: async (body) => readKeys(JSON.parse(body)),
    lifetime: (_keys, headers) => {
      const said = readFreshness(headers) ?? defaultFreshness;
      const fresh = Math.min(Math.max(said, leastFreshness), mostFreshness);
      return { fresh, usable: Math.max(fresh, maxStale) };
    },
  });
  let unknownAskedAt = Number.NEGATIVE_INFINITY;
  let asking: Promise<Keys> | undefined;

  const noKeys = (error: unknown): Refusal =>
    unavailable('keys_unavailable', 'The keys of the issuer cannot be had', error);

  async function find(kid: string, alg: Algorithm): Promise<CryptoKey> {
    let keys: Keys;
    try {
      keys = await keySet.get();
    } catch (error) {
      throw noKeys(error);
    }
    if (!keys.byKid.has(kid)) keys = await findUnknown();
    const jwk = keys.byKid.get(kid);
    if (!jwk) throw invalidToken('kid', 'The access token is signed by no key of the issuer');
    if (!fits(jwk, alg)) throw invalidToken('key', 'The key of the access token is of another algorithm');
    const known = keys.imported.get(`${alg} ${kid}`);
    if (known) return known;
    const key = await importKey(jwk, alg);
    keys.imported.set(`${alg} ${kid}`, key);
    return key;
  }

  /** Asks again for a key that may be new. Whatever is presented: once in the cool-down, and as rarely as ever after a failure. */
  async function findUnknown(): Promise<Keys> {
    try {
      // While nobody can say whether there is such a key, the token is not called invalid: its owner would throw it away.
      if (keySet.failed() || !isWithin(unknownAskedAt, clock(), cooldown * 1000)) {
        unknownAskedAt = clock();
        const asked = keySet.refresh();
        if (isCloudflareWorker()) return await asked;
        asking = asked.finally(() => {
          asking = undefined;
        });
      }
      // Those who come while it is asked wait for the answer too.
      return await (asking ?? keySet.get());
    } catch (error) {
      throw noKeys(error);
    }
  }

  return { find };
}

/** @throws {TypeError} where it is no JWK Set. Keys that are not for this (symmetric, for encryption, unnamed) are left out */
function readKeys(value: unknown): Keys {
  const keys = (value as { keys?: unknown } | null)?.keys;
  if (!Array.isArray(keys) || keys.length > keyLimit) throw new TypeError('no JWK Set');
  const byKid = new Map<string, JWK>();
  for (const jwk of keys as (JWK | null)[]) {
    if (typeof jwk?.kid !== 'string' || jwk.kty === 'oct') continue;
    if (jwk.use !== undefined && jwk.use !== 'sig') continue;
    byKid.set(jwk.kid, jwk);
  }
  return { byKid, imported: new Map() };
}

const kinds = {
  ES256: ['EC', 'P-256'],
  RS256: ['RSA', undefined],
  PS256: ['RSA', undefined],
  EdDSA: ['OKP', 'Ed25519'],
  Ed25519: ['OKP', 'Ed25519'],
} as const satisfies Record<Algorithm, readonly [string, string | undefined]>;

/** `EdDSA` and `Ed25519` (RFC 9864) are two names of one algorithm. */
const nameOf = (alg: string): string => (alg === 'EdDSA' ? 'Ed25519' : alg);

function fits(jwk: JWK, alg: Algorithm): boolean {
  const [kty, crv] = kinds[alg];
  const sameAlgorithm = jwk.alg === undefined || nameOf(jwk.alg) === nameOf(alg);
  return sameAlgorithm && jwk.kty === kty && (crv === undefined || jwk.crv === crv);
}

async function importKey({ kty, crv, x, y, n, e }: JWK, alg: Algorithm): Promise<CryptoKey> {
  const members = Object.entries({ kty, crv, x, y, n, e }).filter(([, value]) => value !== undefined);
  try {
    // Public members alone.
    return (await importJWK(Object.fromEntries(members) as JWK, alg)) as CryptoKey;
  } catch {
    throw invalidToken('key', 'The key of the access token cannot be used');
  }
}
