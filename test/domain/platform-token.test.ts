import { createHash, randomFillSync } from 'node:crypto';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createPlatformToken,
  digestPlatformToken,
  isPlatformTokenFormat,
} from '../../server/domain/platform-token.ts';

const contractFormat = /^ptk_[0-9A-Za-z]{49}$/;
const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const random32 = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));

/** The format once more, written from contract §4 alone. */
function base62(value: bigint, length: number): string {
  const digits = Array.from({ length }, (_, index) => {
    const digit = (value / 62n ** BigInt(length - 1 - index)) % 62n;
    return alphabet[Number(digit)];
  });
  return digits.join('');
}

describe('platform token format', () => {
  it('has the shape of the contract and verifies, for any random bits', () => {
    fc.assert(
      fc.property(random32, (random) => {
        const { token } = createPlatformToken('ptk', random);
        expect(token).toMatch(contractFormat);
        expect(isPlatformTokenFormat(token)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  it('is prefix, the random bits and their CRC-32, in base62', () => {
    fc.assert(
      fc.property(random32, (random) => {
        const body = `ptk_${base62(BigInt(`0x${random.toString('hex')}`), 43)}`;
        expect(createPlatformToken('ptk', random).token).toBe(body + base62(BigInt(crc32(body)), 6));
      }),
    );
  });

  it('pads the smallest and fits the largest secret', () => {
    const zero = createPlatformToken('ptk', Buffer.alloc(32)).token;
    const body = `ptk_${'0'.repeat(43)}`;
    expect(zero).toBe(body + base62(BigInt(crc32(body)), 6));
    expect(createPlatformToken('ptk', Buffer.alloc(32, 0xff)).token).toMatch(contractFormat);
  });

  it('agrees with the CRC-32 check value of zlib', () => {
    // The catalogue's check value of CRC-32/ISO-HDLC, which zlib implements.
    expect(crc32('123456789')).toBe(0xcbf43926);
    // `ptk_` and 43 zeros, worked out with Python's zlib.crc32 and divmod by 62.
    expect(createPlatformToken('ptk', Buffer.alloc(32)).token.slice(-6)).toBe('1JrgN5');
  });

  it('is refused after any one character is changed', () => {
    fc.assert(
      fc.property(
        random32,
        fc.nat({ max: 52 }),
        fc.constantFrom(...alphabet, '_', '-', ' ', 'é'),
        (random, position, character) => {
          const { token } = createPlatformToken('ptk', random);
          fc.pre(token[position] !== character);
          const changed = token.slice(0, position) + character + token.slice(position + 1);
          expect(isPlatformTokenFormat(changed)).toBe(false);
        },
      ),
      { numRuns: 5_000 },
    );
  });

  it('is refused after two neighbours are swapped', () => {
    fc.assert(
      fc.property(random32, fc.integer({ min: 4, max: 51 }), (random, at) => {
        const { token } = createPlatformToken('ptk', random);
        fc.pre(token[at] !== token[at + 1]);
        const swapped = token.slice(0, at) + token[at + 1] + token[at] + token.slice(at + 2);
        expect(isPlatformTokenFormat(swapped)).toBe(false);
      }),
    );
  });

  it.each([
    ['a line break at the end', (token: string) => `${token}\n`],
    ['a space at the end', (token: string) => `${token} `],
    ['a missing character', (token: string) => token.slice(0, -1)],
    ['a character too many', (token: string) => `${token}0`],
    ['capitals in the prefix', (token: string) => token.replace('ptk', 'PTK')],
    ['no prefix', (token: string) => token.slice(4)],
    ['nothing', () => ''],
  ])('is refused with %s', (_name, change) => {
    expect(isPlatformTokenFormat(change(createPlatformToken('ptk').token))).toBe(false);
  });

  it('never accepts arbitrary text', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => !isPlatformTokenFormat(text)));
  });

  it('goes on accepting tokens of another prefix', () => {
    const { token } = createPlatformToken('acme2');
    expect(token).toMatch(/^acme2_[0-9A-Za-z]{49}$/);
    expect(isPlatformTokenFormat(token)).toBe(true);
  });

  it('refuses anything but 32 random bytes', () => {
    expect(() => createPlatformToken('ptk', Buffer.alloc(31))).toThrow(RangeError);
    expect(() => createPlatformToken('ptk', Buffer.alloc(33))).toThrow(RangeError);
  });

  it('is stored as SHA-256 of the whole token, with its first 8 characters as the hint', () => {
    const { token, digest, hint } = createPlatformToken('ptk');
    expect(digest).toEqual(createHash('sha256').update(token, 'ascii').digest());
    expect(digestPlatformToken(token)).toEqual(digest);
    expect(hint).toBe(token.slice(0, 8));
  });

  it('holds for a million generated tokens, all different', { timeout: 120_000 }, () => {
    const count = 1_000_000;
    const random = randomFillSync(Buffer.alloc(32 * count));
    const seen = new BigUint64Array(count);
    let wrong = 0;
    for (let index = 0; index < count; index += 1) {
      const { token, digest } = createPlatformToken('ptk', random.subarray(32 * index, 32 * (index + 1)));
      if (!contractFormat.test(token) || !isPlatformTokenFormat(token)) wrong += 1;
      seen[index] = digest.readBigUInt64BE();
    }
    expect(wrong).toBe(0);
    // 64 bits of each digest: a collision among a million has a chance of 1 in 36 million.
    const sorted = seen.sort();
    expect(sorted.some((one, index) => one === sorted[index + 1])).toBe(false);
  });
});
