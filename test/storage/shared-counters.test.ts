import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { policy } from '../../config/policy.ts';
import { createSharedCounters } from '../../server/storage/shared-counters.ts';
import { createTestDatabase } from '../support/harness.ts';

let test: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  test = await createTestDatabase();
});
afterAll(() => test.drop());
afterEach(() => test.database.knex('rate_limits').delete());

/** A process, with a clock that is its own. */
function createProcess(start = 0) {
  const clock = { now: start };
  const errors: unknown[] = [];
  const counters = createSharedCounters({
    knex: test.database.knex,
    now: () => clock.now,
    onError: (error) => void errors.push(error),
  });
  return { clock, errors, ...counters };
}

/** Points of this counter's keys, as they are in the table. */
const rows = (name: string) =>
  test.database.knex('rate_limits').whereLike('key', `${name}:%`).pluck('points');
const small = { points: 5, window: 60 };
const repeat = (times: number, act: () => unknown) => Array.from({ length: times }, act);

it('processes share what they count, whatever their clocks say', async () => {
  const [one, other] = [createProcess(0), createProcess(9_000_000)];
  const [here, there] = [one.counter('a', small), other.counter('a', small)];
  expect(repeat(3, () => here.add('x'))).toEqual([1, 2, 3]);
  expect(there.add('x')).toBe(1);
  await one.flush();
  await other.flush();
  expect(there.used('x')).toBe(4);
  expect(there.wait('x')).toBeGreaterThan(55);
  here.add('x');
  await one.flush();
  expect(here.used('x')).toBe(5);
  expect(here.used('y')).toBe(0);
});

it('a window begins with its first, ends for all, and then counts anew', async () => {
  const [one, other] = [createProcess(), createProcess()];
  const [here, there] = [one.counter('a', small), other.counter('a', small)];
  repeat(4, () => here.add('x'));
  await one.flush();
  one.clock.now += 60_001;
  expect(here.used('x')).toBe(0);
  await test.database.knex('rate_limits').update({ expire: Date.now() - 1 });
  there.add('x');
  await other.flush();
  expect(there.used('x')).toBe(1);
});

it('limits of different names do not mix', async () => {
  const { counter, flush } = createProcess();
  const [a, b] = [counter('a', small), counter('b', small)];
  a.add('x');
  await flush();
  expect(b.used('x')).toBe(0);
  expect(await test.database.knex('rate_limits').pluck('key')).toEqual(['a:x']);
});

it('a flood is one statement a second, and a failure now and then is none', async () => {
  const { counter, flush } = createProcess();
  const statements: string[] = [];
  const count = ({ sql }: { sql: string }) => void statements.push(sql);
  test.database.knex.on('query', count);
  const large = counter('flood', { points: 300, window: 60 });
  for (let n = 0; n < 500; n += 1) large.add(`quiet ${n}`);
  for (let n = 0; n < 20_000; n += 1) large.add(`flood ${n % 50}`);
  await expect.poll(() => statements.length).toBe(1);
  await flush();
  test.database.knex.off('query', count);
  expect(statements).toHaveLength(1);
  expect(await rows('flood')).toEqual(Array(50).fill(400));
});

it('a flood of keys takes up no more memory and no longer statements: the oldest go', async () => {
  const { counter, flush } = createProcess();
  const counted = counter('keys', { points: 1, window: 60 });
  for (let n = 0; n < policy.countedKeys * 3; n += 1) counted.add(String(n));
  const kept = Array.from({ length: policy.countedKeys * 3 }, (_, n) => counted.used(String(n)));
  expect(kept.filter(Boolean).length).toBeLessThanOrEqual(policy.countedKeys);
  expect(kept.slice(-policy.countedKeys / 2)).toEqual(Array(policy.countedKeys / 2).fill(1));
  await flush();
  expect(await rows('keys')).toHaveLength(policy.sharedCounterRows);
});

it('processes that write the same keys at once do not deadlock, and lose nothing', async () => {
  const processes = Array.from({ length: 4 }, () => createProcess());
  const limit = { points: 1, window: 60 };
  const counted = processes.map(({ counter }) => counter('together', limit));
  for (let round = 0; round < 5; round += 1) {
    for (const [index, one] of counted.entries())
      for (let n = 0; n < 200; n += 1) one.add(String(index % 2 ? n : 199 - n));
    await Promise.all(processes.map(({ flush }) => flush()));
  }
  expect(processes.flatMap(({ errors }) => errors)).toEqual([]);
  expect(await rows('together')).toEqual(Array(200).fill(20));
});

it('without the table each goes on by its own count, and catches up when it is back', async () => {
  const { counter, flush, errors } = createProcess();
  const counted = counter('alone', small);
  await test.database.knex.raw('ALTER TABLE rate_limits RENAME TO gone');
  try {
    expect(repeat(6, () => counted.add('x'))).toEqual([1, 2, 3, 4, 5, 6]);
    await flush();
    expect(errors).toHaveLength(1);
    expect(counted.used('x')).toBe(6);
  } finally {
    await test.database.knex.raw('ALTER TABLE gone RENAME TO rate_limits');
  }
  await flush();
  expect(await rows('alone')).toEqual([6]);
});
