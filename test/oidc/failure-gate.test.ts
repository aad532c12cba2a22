import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { policy } from '../../config/policy.ts';
import { createFailureGate } from '../../server/oidc/failure-limits.ts';
import type { SharedCounters } from '../../server/storage/shared-counters.ts';

const address = { ip: '192.0.2.1' };
const { 'exchange-failures': perDigest, 'exchange-failures-address': perAddress } = policy.limits;
const digestOf = (text: string | number) => createHash('sha256').update(String(text)).digest();

/** A gate over counters of this process alone, with a clock that a test sets. */
function createGate() {
  const clock = { now: 0 };
  const counts = new Map<string, number>();
  const counter = () => ({
    add(key: string) {
      const count = (counts.get(key) ?? 0) + 1;
      counts.set(key, count);
      return count;
    },
    used: (key: string) => counts.get(key) ?? 0,
    wait: () => 60,
  });
  const gate = createFailureGate({
    limits: policy.limits,
    sharedCounters: { counter } as unknown as SharedCounters,
    reports: { report: (refusal) => refusal },
    now: () => clock.now,
    random: () => 0.5,
  });
  let serial = 0;
  return {
    ...gate,
    clock,
    /** What would be looked up, and would be found dead. */
    fail(digest: Buffer | undefined) {
      return gate.admit(digest, address) ?? gate.failed(digest, address);
    },
    exhaustAddress() {
      for (let n = 0; n < perAddress.points; n += 1) gate.failed(digestOf(`exhaust ${serial++}`), address);
    },
  };
}

describe('one and the same value', () => {
  it('may fail so often in a minute, and is looked up again when that is over', () => {
    const { fail, admit, clock } = createGate();
    const dead = digestOf('dead');
    for (let n = 0; n < perDigest.points; n += 1) expect(fail(dead)).toBeUndefined();
    clock.now = 10_000;
    expect(admit(dead, address)).toEqual({ limit: 'exchange-failures', wait: 50 });
    clock.now = 60_000;
    expect(admit(dead, address)).toBeUndefined();
  });

  it('does not make its window longer by being refused', () => {
    const { fail, admit, clock } = createGate();
    const dead = digestOf('dead');
    for (clock.now = 0; clock.now < 60_000; clock.now += 100) fail(dead);
    expect(admit(dead, address)).toBeUndefined();
  });

  it('that is good is looked up however much has failed before', () => {
    const { fail, admit, succeeded, exhaustAddress } = createGate();
    const good = digestOf('good');
    for (let n = 1; n < perDigest.points; n += 1) fail(good);
    succeeded(good);
    exhaustAddress();
    expect(admit(good, address)).toBeUndefined();
  });
});

describe('an address over its limit', () => {
  it('gets one answer for all that is bad, whether it was looked up or not', () => {
    const { fail, succeeded, exhaustAddress } = createGate();
    const wasGood = digestOf('was good');
    succeeded(wasGood);
    exhaustAddress();
    const refusal = { limit: 'exchange-failures-address', wait: 3 };
    expect(fail(wasGood)).toEqual(refusal);
    expect(fail(digestOf('new'))).toEqual(refusal);
    expect(fail(digestOf('new'))).toEqual(refusal);
    expect(fail(undefined)).toEqual(refusal);
  });

  it('keeps nobody else out, and has no part in another address', () => {
    const { admit, failed, exhaustAddress } = createGate();
    exhaustAddress();
    const other = { ip: '192.0.2.2' };
    expect(admit(digestOf('new'), other)).toBeUndefined();
    expect(failed(digestOf('new'), other)).toBeUndefined();
  });

  it('asks the database for so much a second that is new, and for what comes back', () => {
    const { admit, exhaustAddress, clock } = createGate();
    const { fresh, returning } = policy.lookUpsOverLimit;
    exhaustAddress();
    const values = Array.from({ length: 1_000 }, (_, n) => digestOf(n));
    const admitted = () => values.filter((one) => !admit(one, address)).length;
    expect(admitted()).toBe(fresh);
    clock.now += 1_000;
    // Those that were looked up have not been found bad, so they are as new as before.
    expect(admitted()).toBe(fresh + returning);
  });

  it('lets a good token through that nobody has seen here, in a flood of ten thousand dead ones', () => {
    const { fail, admit, succeeded, exhaustAddress, clock } = createGate();
    exhaustAddress();
    const dead = Array.from({ length: 10_000 }, (_, n) => digestOf(`dead ${n}`));
    let next = 0;
    const flood = (seconds: number) => {
      for (const end = clock.now + seconds * 1_000; clock.now < end; clock.now += 0.2)
        fail(dead[next++ % dead.length] as Buffer);
    };
    flood(70.7);
    for (let n = 0; n < 30; n += 1) {
      const good = digestOf(`good ${n}`);
      let tries = 1;
      for (let refusal = admit(good, address); refusal && tries < 5; refusal = admit(good, address)) {
        flood(refusal.wait);
        tries += 1;
      }
      succeeded(good);
      expect(tries).toBeLessThanOrEqual(2);
    }
  });

  it('lets it through in a flood of values that are never the same, at its second attempt', () => {
    const { fail, admit, exhaustAddress, clock } = createGate();
    exhaustAddress();
    let next = 0;
    const flood = (seconds: number) => {
      for (const end = clock.now + seconds * 1_000; clock.now < end; clock.now += 0.2)
        fail(digestOf(`flood ${next++}`));
    };
    flood(5.7);
    let [first, second] = [0, 0];
    for (let n = 0; n < 20; n += 1) {
      const good = digestOf(`good ${n}`);
      const refusal = admit(good, address);
      if (!refusal) first += 1;
      else {
        flood(refusal.wait);
        if (!admit(good, address)) second += 1;
      }
    }
    expect(first).toBeLessThan(5);
    expect(first + second).toBeGreaterThanOrEqual(19);
  });
});

it('a million values take up no memory beyond the tables', () => {
  const { fail, exhaustAddress, clock } = createGate();
  exhaustAddress();
  const value = Buffer.alloc(32);
  const run = (count: number) => {
    for (let n = 0; n < count; n += 1) {
      clock.now += 0.1;
      value.writeDoubleLE(n * 1.1 + clock.now, 0);
      fail(value);
    }
  };
  run(100_000);
  const before = process.memoryUsage().arrayBuffers;
  run(1_000_000);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_000_000);
});
