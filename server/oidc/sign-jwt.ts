import { importJWK, type JWTPayload, SignJWT } from 'jose';
import type { KeySet } from '../keys/signing-keys.ts';

type ImportedKey = Awaited<ReturnType<typeof importJWK>>;

const imported = new WeakMap<KeySet, Promise<ImportedKey>>();

/** A JWT of ours that is no access token, by the key that signs now. @param typ RFC 8725 §3.11: what tells it from the others */
export async function signJwt(keySet: KeySet, typ: string, claims: JWTPayload): Promise<string> {
  const { alg, privateJwks } = keySet;
  const [jwk] = privateJwks;
  if (!jwk) throw new Error('no signing key');
  const key = imported.get(keySet) ?? importJWK(jwk, alg);
  imported.set(keySet, key);
  return new SignJWT(claims).setProtectedHeader({ alg, kid: String(jwk.kid), typ }).sign(await key);
}
