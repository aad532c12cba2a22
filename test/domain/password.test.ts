import { describe, expect, it } from 'vitest';
import {
  createClientSecret,
  digestClientSecret,
  verifyClientSecret,
} from '../../server/domain/client-secret.ts';
import { hashPassword, passwordFault, verifyPassword } from '../../server/domain/password.ts';

describe('password', () => {
  it.each([
    ['7 characters', 'a'.repeat(7)],
    ['7 characters of four bytes', '😀'.repeat(7)],
    ['73 bytes', 'a'.repeat(73)],
    ['74 bytes in 37 characters', 'é'.repeat(37)],
    ['NUL', 'password\0word'],
  ])('refuses %s and never hashes it', async (_name, password) => {
    expect(passwordFault(password)).toMatch(/^must /);
    await expect(async () => hashPassword(password)).rejects.toThrow(RangeError);
  });

  it.each([
    ['8 characters', 'a'.repeat(8)],
    ['72 bytes', 'a'.repeat(72)],
    ['72 bytes in 36 characters', 'é'.repeat(36)],
    ['spaces', 'correct horse battery staple'],
  ])('accepts %s', (_name, password) => {
    expect(passwordFault(password)).toBeUndefined();
  });

  it('is kept as bcrypt of cost 12, salted, and verifies', async () => {
    const [one, other] = await Promise.all([hashPassword('a'.repeat(72)), hashPassword('a'.repeat(72))]);
    expect(one).toMatch(/^\$2[by]\$12\$/);
    expect(one).not.toBe(other);
    expect(await verifyPassword('a'.repeat(72), one)).toBe(true);
    expect(await verifyPassword(`${'a'.repeat(71)}b`, one)).toBe(false);
  });

  it('does not verify what is equal in the first 72 bytes only', async () => {
    const hash = await hashPassword('a'.repeat(72));
    expect(await verifyPassword('a'.repeat(73), hash)).toBe(false);
  });

  it('does not verify what is equal up to a NUL only', async () => {
    const hash = await hashPassword('password');
    expect(await verifyPassword('password\0x', hash)).toBe(false);
  });

  it.each([null, undefined])(
    'never verifies without a hash (%s), and does the work all the same',
    async (hash) => {
      expect(await verifyPassword('no such user', hash)).toBe(false);
      const started = performance.now();
      expect(await verifyPassword('whatever', hash)).toBe(false);
      expect(performance.now() - started).toBeGreaterThan(20);
    },
  );
});

describe('client secret', () => {
  it('has 256 random bits and verifies against its digest only', () => {
    const { secret, digest } = createClientSecret();
    expect(secret).toMatch(/^[\w-]{43}$/);
    expect(digest).toEqual(digestClientSecret(secret));
    expect(verifyClientSecret(secret, digest)).toBe(true);
    expect(verifyClientSecret(`${secret}x`, digest)).toBe(false);
    expect(verifyClientSecret('', digest)).toBe(false);
    expect(verifyClientSecret(digest.toString('base64url'), digest)).toBe(false);
  });
});
