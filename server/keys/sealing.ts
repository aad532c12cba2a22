import { createHash, hkdfSync } from 'node:crypto';
import { CompactEncrypt, compactDecrypt, decodeProtectedHeader } from 'jose';

/** The key that a value was sealed with is not among those configured. */
export class UnknownSealingKey extends Error {}

/** Authenticated encryption at rest: compact JWE (RFC 7516), `dir` with A256GCM. */
export interface Sealer {
  /** @param purpose bound to the value: what was sealed for one purpose does not open for another */
  seal(plaintext: string, purpose: string): Promise<string>;
  /** @throws UnknownSealingKey, or jose's error where the value was tampered with */
  open(sealed: string, purpose: string): Promise<string>;
  /** Whether the value is under the first key. */
  isCurrent(sealed: string): boolean;
  /** Secrets for signing cookies, one for each key, the first in use. The same on every instance. */
  readonly cookieKeys: readonly string[];
}

/** @param keys 32 bytes each: the first seals, all open */
export function createSealer(keys: readonly Buffer[]): Sealer {
  const [current] = keys;
  if (!current) throw new Error('at least one key encryption key is needed');
  const byId = new Map(keys.map((key) => [keyId(key), key]));
  const encoder = new TextEncoder();
  const decoder = new TextDecoder();

  return {
    seal(plaintext, purpose) {
      return new CompactEncrypt(encoder.encode(plaintext))
        .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', kid: keyId(current), purpose })
        .encrypt(current);
    },
    async open(sealed, purpose) {
      const header = decodeProtectedHeader(sealed);
      const key = byId.get(String(header.kid));
      if (!key) throw new UnknownSealingKey(`sealed with a key that is not configured (${header.kid})`);
      const { plaintext, protectedHeader } = await compactDecrypt(sealed, key, {
        keyManagementAlgorithms: ['dir'],
        contentEncryptionAlgorithms: ['A256GCM'],
      });
      if (protectedHeader.purpose !== purpose) throw new Error('sealed for another purpose');
      return decoder.decode(plaintext);
    },
    isCurrent: (sealed) => decodeProtectedHeader(sealed).kid === keyId(current),
    cookieKeys: keys.map((key) =>
      Buffer.from(hkdfSync('sha256', key, '', 'cookies', 32)).toString('base64url'),
    ),
  };
}

/** Names a key without saying anything of it: it has 256 random bits. */
function keyId(key: Buffer): string {
  return createHash('sha256').update('kek').update(key).digest('hex').slice(0, 16);
}
