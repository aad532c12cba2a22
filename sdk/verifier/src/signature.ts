import { compactVerify } from 'jose';
import type { CompactJws } from './compact-jws.ts';
import { invalidToken } from './errors.ts';
import { type Algorithm, type KeySource, supportedAlgorithms } from './keys.ts';

export interface SignatureRules {
  readonly keys: KeySource;
  readonly algorithms: readonly Algorithm[];
  /** Accepted `typ`, in lower case, without `application/` (RFC 7515 §4.1.9). */
  readonly typ: string;
}

/**
 * A JWT's header, then its signature by a key of the issuer: what the header itself brings or points to (`jwk`, `jku`, `x5c`,
 * `x5u`) is never looked at.
 * @throws {Refusal}
 */
export async function verifySignature(
  jwt: string,
  { header }: CompactJws,
  { keys, algorithms, typ }: SignatureRules,
): Promise<void> {
  const type = typeof header.typ === 'string' ? header.typ.toLowerCase().replace(/^application\//, '') : '';
  if (type !== typ) throw invalidToken('typ', 'The JWT is no access token');
  const { alg, kid } = header;
  if (!isAlgorithm(alg) || !algorithms.includes(alg)) {
    throw invalidToken('alg', 'The access token is signed with an algorithm that is not allowed');
  }
  // No extension is understood (RFC 7515 §4.1.11), and unencoded payloads are none of a JWT's (RFC 7797 §7).
  if (header.crit !== undefined || header.b64 !== undefined) {
    throw invalidToken('crit', 'The access token needs an extension that is not supported');
  }
  if (typeof kid !== 'string') throw invalidToken('kid', 'The access token names no key');
  const key = await keys.find(kid, alg);
  try {
    await compactVerify(jwt, key, { algorithms: [alg] });
  } catch {
    throw invalidToken('signature', 'The signature of the access token does not verify');
  }
}

const isAlgorithm = (alg: unknown): alg is Algorithm =>
  (supportedAlgorithms as readonly unknown[]).includes(alg);
