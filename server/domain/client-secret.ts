import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

/** 256 random bits in base64url: 43 characters. */
export function createClientSecret(): { secret: string; digest: Buffer } {
  const secret = randomBytes(32).toString('base64url');
  return { secret, digest: digestClientSecret(secret) };
}

/** With 256 random bits there is nothing to guess, so SHA-256 is enough: bcrypt would only slow the token endpoint. */
export function digestClientSecret(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

/** Names a secret in the access tokens that were had with it; tells nothing of it, nor of its digest. */
export function clientSecretReference(digest: Buffer): string {
  return createHash('sha256').update('access tokens').update(digest).digest('base64url').slice(0, 16);
}

/** Constant time: both sides are digests of the same length. */
export function verifyClientSecret(secret: string, digest: Buffer): boolean {
  return timingSafeEqual(digestClientSecret(secret), digest);
}
