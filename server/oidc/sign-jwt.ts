import type { JWTPayload } from 'jose';
import { createSigner, type Signer } from '../keys/signer.ts';
import type { KeySet } from '../keys/signing-keys.ts';

interface Issuing {
  readonly alg: string;
  readonly kid: string | undefined;
  readonly sign: Signer;
  /** Encoded protected headers, by `typ`. */
  readonly headers: Map<string, string>;
}

const issuing = new WeakMap<KeySet, Issuing>();

/**
 * A JWT (RFC 7519) by the key that signs now, as a JWS in compact serialization (RFC 7515 §3.1).
 * @param typ RFC 8725 §3.11: what tells the kinds of JWT apart
 */
export async function signJwt(keySet: KeySet, typ: string, claims: JWTPayload): Promise<string> {
  const { alg, kid, sign, headers } = issuing.get(keySet) ?? prepare(keySet);
  let header = headers.get(typ);
  if (header === undefined) {
    header = encode({ alg, typ, kid });
    headers.set(typ, header);
  }
  const input = `${header}.${encode(claims)}`;
  const signature = await sign(Buffer.from(input));
  return `${input}.${signature.toString('base64url')}`;
}

function prepare(keySet: KeySet): Issuing {
  const { alg, privateJwks } = keySet;
  const [jwk] = privateJwks;
  if (!jwk) throw new Error('no signing key');
  const prepared = { alg, kid: jwk.kid, sign: createSigner(jwk, alg), headers: new Map() };
  issuing.set(keySet, prepared);
  return prepared;
}

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
