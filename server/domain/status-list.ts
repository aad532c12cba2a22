import { deflateSync } from 'node:zlib';

/** Token Status List (draft-ietf-oauth-status-list), with one bit a token: 0 is VALID, 1 is INVALID. */

/** Tokens of one list: 16 KiB before compression. Part of what was issued: it must never change. */
export const statusListSize = 131_072;

export interface StatusReference {
  /** Number of the list. */
  readonly list: number;
  /** Place in it. */
  readonly idx: number;
}

/** Where a platform token's status is found. */
export function referenceOf(statusIndex: number): StatusReference {
  return { list: Math.floor(statusIndex / statusListSize), idx: statusIndex % statusListSize };
}

export const statusListUri = (issuer: string, list: number): string => `${issuer}/oauth/status-lists/${list}`;

/** @param invalid places in the list. @returns the bits, the lowest place in the lowest bit of the first byte (§4.1) */
export function createStatusBits(invalid: readonly number[]): Buffer {
  const bits = Buffer.alloc(statusListSize / 8);
  for (const idx of invalid) bits.writeUInt8(bits.readUInt8(idx >> 3) | (1 << (idx & 7)), idx >> 3);
  return bits;
}

/** `lst` of the claim `status_list` (§4.2): zlib, with the best compression, as base64url. */
export const compressStatusBits = (bits: Buffer): string =>
  deflateSync(bits, { level: 9 }).toString('base64url');
