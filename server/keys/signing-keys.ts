import { createHash } from 'node:crypto';
import { calculateJwkThumbprint, createLocalJWKSet, exportJWK, generateKeyPair, type JWK } from 'jose';
import type { SigningAlg } from '../../config/env.ts';
import type { SigningKeys, StoredSigningKey } from '../storage/signing-keys.ts';
import type { Sealer } from './sealing.ts';

/** The database's keys cannot be used with this configuration; the message says which and why. */
export class SigningKeyError extends Error {}

export interface KeySet {
  readonly alg: SigningAlg;
  /** Private JWKs, the one that signs first. Never leaves the process. */
  readonly privateJwks: readonly JWK[];
  readonly publicJwks: readonly JWK[];
  /** The JWKS document, and its strong entity tag. */
  readonly jwks: { readonly body: string; readonly etag: string };
  /** Key resolver for jose's `jwtVerify`. */
  readonly verificationKeys: ReturnType<typeof createLocalJWKSet>;
}

export interface KeySetDeps {
  readonly signingKeys: SigningKeys;
  readonly sealer: Sealer;
  readonly alg: SigningAlg;
  readonly clock: () => Date;
}

/**
 * Reads the signing keys; at the very first start, makes one.
 * @throws SigningKeyError where keys cannot be decrypted or are of another algorithm: never a silent new key
 */
export async function loadKeySet({ signingKeys, sealer, alg, clock }: KeySetDeps): Promise<KeySet> {
  const stored = await signingKeys.listOrInsert(() => createSigningKey(alg, sealer, clock()));
  const other = stored.filter((key) => key.alg !== alg);
  if (other.length > 0) {
    throw new SigningKeyError(
      `SIGNING_ALG is ${alg}, but the database holds ${other[0]?.alg} keys (${other.map((key) => key.kid).join(', ')}): one key set has one key type`,
    );
  }
  return createKeySet(alg, await Promise.all(stored.toReversed().map((key) => openSigningKey(key, sealer))));
}

/** What keeps the keys from serving, for `/health/ready`: the one that signs must still be in the database. */
export async function signingKeyFaults(signingKeys: SigningKeys, keySet: KeySet): Promise<string[]> {
  try {
    return (await signingKeys.has(String(keySet.publicJwks[0]?.kid))) ? [] : ['signing_keys'];
  } catch {
    // It answered a moment ago: readiness gives a reason, never the problem document of an error.
    return ['database'];
  }
}

export async function createSigningKey(
  alg: SigningAlg,
  sealer: Sealer,
  now: Date,
): Promise<StoredSigningKey> {
  const options = alg === 'EdDSA' ? { crv: 'Ed25519' } : { modulusLength: 3072 };
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true, ...options });
  const kid = await calculateJwkThumbprint(await exportJWK(publicKey));
  const common = { kid, alg, use: 'sig' };
  return {
    kid,
    alg,
    publicJwk: { ...(await exportJWK(publicKey)), ...common },
    privateJwe: await sealer.seal(
      JSON.stringify({ ...(await exportJWK(privateKey)), ...common }),
      purpose(kid),
    ),
    publishedAt: now,
    activatesAt: now,
    retiresAt: null,
  };
}

async function openSigningKey(stored: StoredSigningKey, sealer: Sealer): Promise<JWK> {
  try {
    return JSON.parse(await sealer.open(stored.privateJwe, purpose(stored.kid)));
  } catch (cause) {
    throw new SigningKeyError(
      `signing key ${stored.kid} cannot be decrypted: KEY_ENCRYPTION_KEY lacks its key`,
      { cause },
    );
  }
}

function createKeySet(alg: SigningAlg, privateJwks: readonly JWK[]): KeySet {
  const publicJwks = privateJwks.map(toPublic);
  const body = JSON.stringify({ keys: publicJwks });
  return Object.freeze({
    alg,
    privateJwks,
    publicJwks,
    jwks: { body, etag: `"${createHash('sha256').update(body).digest('base64url')}"` },
    verificationKeys: createLocalJWKSet({ keys: [...publicJwks] }),
  });
}

function toPublic({ kty, kid, alg, crv, x, y, n, e }: JWK): JWK {
  const jwk = { kty, kid, use: 'sig', alg, crv, x, y, n, e };
  return Object.fromEntries(Object.entries(jwk).filter(([, value]) => value !== undefined)) as JWK;
}

const purpose = (kid: string) => `signing-key ${kid}`;
