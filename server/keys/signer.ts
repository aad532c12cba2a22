import { constants, createPrivateKey, type KeyObject, sign } from 'node:crypto';
import type { JWK } from 'jose';
import type { SigningAlg } from '../../config/env.ts';

/** Signs the JWS signing input (RFC 7515 §5.1). @returns the signature in JWS form, so r || s for ES256 */
export type Signer = (data: Uint8Array) => Buffer | Promise<Buffer>;

const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };

/**
 * Signs through node:crypto. An elliptic curve takes a tenth of a millisecond, less than a trip to a thread and
 * back; RSA takes several, and goes to a thread, so that nothing waits behind it.
 */
export function createSigner(privateJwk: JWK, alg: SigningAlg): Signer {
  const key = createPrivateKey({ key: privateJwk as never, format: 'jwk' });
  switch (alg) {
    case 'ES256': // RFC 7518 §3.4
      // Asked for as r || s, and with options at all, the same signature takes twice as long.
      return (data) => toConcatenated(sign('sha256', data, key));
    case 'EdDSA': // RFC 8037 §3.1
      return (data) => sign(null, data, key);
    case 'RS256': // RFC 7518 §3.3
      return (data) => signOnThread(data, key);
    case 'PS256': // RFC 7518 §3.5
      return (data) => signOnThread(data, { key, ...pss });
  }
}

/**
 * An ECDSA signature as r || s, each of 32 bytes (RFC 7518 §3.4).
 * @param der SEQUENCE of the INTEGERs r and s (RFC 3279 §2.2.3), under 128 bytes; each as short as it can be, with a
 *   leading zero where its highest bit is set
 */
export function toConcatenated(der: Uint8Array): Buffer {
  const concatenated = Buffer.alloc(64);
  let offset = 2;
  for (const end of [32, 64]) {
    const length = der[offset + 1] as number;
    const next = offset + 2 + length;
    const digits = der.subarray(Math.max(offset + 2, next - 32), next);
    concatenated.set(digits, end - digits.length);
    offset = next;
  }
  return concatenated;
}

function signOnThread(data: Uint8Array, key: KeyObject | { key: KeyObject }): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    sign('sha256', data, key, (error, signature) => (error ? reject(error) : resolve(signature)));
  });
}
