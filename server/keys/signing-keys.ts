import { createHash } from 'node:crypto';
import { calculateJwkThumbprint, createLocalJWKSet, exportJWK, generateKeyPair, type JWK } from 'jose';
import type { SigningAlg } from '../../config/env.ts';
import type { StoredSigningKey } from '../storage/signing-keys.ts';
import type { Sealer } from './sealing.ts';

/** The database's keys cannot be used with this configuration; the message says which and why. */
export class SigningKeyError extends Error {}

export interface KeySet {
  /** Of the key that signs. */
  readonly alg: SigningAlg;
  /** Of every published key: one, but for the overlap of a change of SIGNING_ALG. */
  readonly algs: readonly SigningAlg[];
  /** Private JWKs, the one that signs first. Never leaves the process. */
  readonly privateJwks: readonly JWK[];
  readonly publicJwks: readonly JWK[];
  /** The JWKS document, and its strong entity tag. */
  readonly jwks: { readonly body: string; readonly etag: string };
  /** Key resolver for jose's `jwtVerify`. */
  readonly verificationKeys: ReturnType<typeof createLocalJWKSet>;
}

/** @param lifetime when the key is published, and when it begins to sign */
export async function createSigningKey(
  alg: SigningAlg,
  sealer: Sealer,
  lifetime: Pick<StoredSigningKey, 'publishedAt' | 'activatesAt'>,
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
    publishedAt: lifetime.publishedAt,
    activatesAt: lifetime.activatesAt,
    retiresAt: null,
  };
}

/** @throws SigningKeyError that names every key that cannot be opened */
export async function openSigningKeys(
  stored: readonly StoredSigningKey[],
  sealer: Sealer,
): Promise<Map<string, JWK>> {
  const opened = await Promise.allSettled(
    stored.map(
      async ({ kid, privateJwe }) => [kid, JSON.parse(await sealer.open(privateJwe, purpose(kid)))] as const,
    ),
  );
  const lost = stored.filter((_, index) => opened[index]?.status === 'rejected').map(({ kid }) => kid);
  if (lost.length > 0) {
    const [cause] = opened.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
    throw new SigningKeyError(
      `signing ${lost.length === 1 ? 'key' : 'keys'} ${lost.join(', ')} cannot be decrypted: KEY_ENCRYPTION_KEY lacks the key`,
      { cause },
    );
  }
  return new Map(opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])));
}

/** @returns the private JWK under the first key encryption key, where it was under another one */
export async function resealSigningKey(
  { kid, privateJwe }: StoredSigningKey,
  sealer: Sealer,
): Promise<string | undefined> {
  if (sealer.isCurrent(privateJwe)) return undefined;
  return sealer.seal(await sealer.open(privateJwe, purpose(kid)), purpose(kid));
}

/** @param privateJwks of the published keys, the one that signs first */
export function createKeySet(privateJwks: readonly JWK[]): KeySet {
  const publicJwks = privateJwks.map(toPublic);
  const body = JSON.stringify({ keys: publicJwks });
  const algs = [...new Set(publicJwks.map(({ alg }) => alg as SigningAlg))];
  return Object.freeze({
    alg: algs[0] as SigningAlg,
    algs,
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
