import { hash, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';

/**
 * Platform tokens on the wire: `<prefix>_` + 43 base62 characters (256 random bits) + 6 base62 characters of CRC-32.
 * The checksum is no security: it turns typos and scanners' noise away before the database is asked.
 */

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const secretLength = 43;
const checksumLength = 6;
// Any prefix: tokens made before TOKEN_PREFIX was changed go on working.
const format = /^[a-z][a-z0-9]{0,15}_[0-9A-Za-z]{49}$/;

export interface GeneratedPlatformToken {
  /** The secret, shown once. */
  readonly token: string;
  readonly digest: Buffer;
  /** The first 8 characters, for recognition. */
  readonly hint: string;
}

/** @param random 32 bytes from a cryptographic generator */
export function createPlatformToken(
  prefix: string,
  random: Buffer = randomBytes(32),
): GeneratedPlatformToken {
  if (random.length !== 32) throw new RangeError('a platform token needs exactly 32 random bytes');
  const body = `${prefix}_${base62(BigInt(`0x${random.toString('hex')}`))}`;
  const token = body + checksum(body);
  return { token, digest: digestPlatformToken(token), hint: token.slice(0, 8) };
}

/** Whether this could be a platform token: right shape, right checksum. Says nothing about its validity. */
export function isPlatformTokenFormat(value: string): boolean {
  return format.test(value) && checksum(value.slice(0, -checksumLength)) === value.slice(-checksumLength);
}

const body = /_[0-9A-Za-z]{49}/g;

/** The platform tokens in a text, whatever stands around them: the checksum tells where the prefix begins. */
export function findPlatformTokens(text: string): string[] {
  return [...text.matchAll(body)].flatMap(({ 0: rest, index }) => {
    const before = /[a-z0-9]*$/.exec(text.slice(Math.max(0, index - 16), index))?.[0] ?? '';
    const candidates = Array.from(before, (_, start) => before.slice(start) + rest);
    return candidates.filter(isPlatformTokenFormat);
  });
}

/** SHA-256 of the whole token: what is stored, and what is looked up (by the index, so timing says nothing). */
export function digestPlatformToken(token: string): Buffer {
  return hash('sha256', token, 'buffer');
}

const checksum = (body: string) => digits(crc32(body), checksumLength);

/** So many digits of an integer. */
function digits(value: number, places: number): string {
  let text = '';
  let rest = value;
  for (let place = 0; place < places; place += 1) {
    text = alphabet.charAt(rest % 62) + text;
    rest = Math.floor(rest / 62);
  }
  return text;
}

/** As many digits at a time as a number holds exactly: 62⁸ < 2⁵³. */
const places = 8;
const group = 62n ** BigInt(places);

function base62(value: bigint): string {
  let text = '';
  for (let rest = value; text.length < secretLength; rest /= group)
    text = digits(Number(rest % group), places) + text;
  return text.slice(-secretLength);
}
