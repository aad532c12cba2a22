import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { createFailedDigests, createKnownDigests } from '../../server/domain/remembered-digests.ts';

const digestOf = (text: string | number) => createHash('sha256').update(String(text)).digest();
/** Digests that share a bucket, whatever the table's size. */
const neighbours = (count: number) =>
  Array.from({ length: count }, (_, index) => Buffer.concat([Buffer.alloc(4), digestOf(index).subarray(4)]));

describe('known digests', () => {
  it('know what was added, and nothing else', () => {
    const known = createKnownDigests(2 ** 12);
    for (let n = 0; n < 100; n += 1) known.add(digestOf(n));
    expect(Array.from({ length: 100 }, (_, n) => known.has(digestOf(n)))).toEqual(Array(100).fill(true));
    for (let n = 100; n < 10_000; n += 1) expect(known.has(digestOf(n))).toBe(false);
    known.delete(digestOf(7));
    expect(known.has(digestOf(7))).toBe(false);
    expect(known.has(digestOf(8))).toBe(true);
  });

  it('lose one of a full bucket for a new one', () => {
    const known = createKnownDigests(64);
    const many = neighbours(9);
    for (const one of many) known.add(one);
    expect(known.has(many[8] as Buffer)).toBe(true);
    expect(many.filter((one) => known.has(one))).toHaveLength(8);
  });

  it('know a digest of zeros only once it was added', () => {
    const known = createKnownDigests(64);
    expect(known.has(Buffer.alloc(32))).toBe(false);
    known.add(Buffer.alloc(32));
    expect(known.has(Buffer.alloc(32))).toBe(true);
  });
});

describe('failed digests', () => {
  it('count in a window from the first failure, which ends at the latest after its seconds', () => {
    const failed = createFailedDigests(64, 60);
    const one = digestOf('one');
    expect(failed.failures(one, 1_000)).toBeUndefined();
    failed.add(one, 10_900);
    failed.add(one, 69_000);
    expect(failed.failures(one, 69_900)).toBe(2);
    expect(failed.wait(one, 69_900)).toBe(1);
    expect(failed.failures(one, 70_900)).toBeUndefined();
    failed.add(one, 71_000);
    expect(failed.failures(one, 71_000)).toBe(1);
  });

  it('remember one that was turned away, and count it from its first failure', () => {
    const failed = createFailedDigests(64, 60);
    const one = digestOf('one');
    failed.turnAway(one, 0);
    expect(failed.failures(one, 1_000)).toBe(0);
    failed.add(one, 50_000);
    expect(failed.failures(one, 109_000)).toBe(1);
    failed.turnAway(one, 109_000);
    expect(failed.failures(one, 109_000)).toBe(1);
  });

  it('keep what failed most through a flood of new values', () => {
    const failed = createFailedDigests(1_024, 60);
    const dead = Array.from({ length: 100 }, (_, n) => digestOf(`dead ${n}`));
    for (let times = 0; times < 10; times += 1) for (const one of dead) failed.add(one, times * 100);
    for (let n = 0; n < 100_000; n += 1) failed.add(digestOf(n), 2_000);
    expect(dead.map((one) => failed.failures(one, 3_000))).toEqual(Array(100).fill(10));
  });
});
