import { setImmediate } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { DatabaseUnavailableError } from '../../server/storage/failures.ts';
import { joinCalls } from '../../server/storage/joined-calls.ts';

/** A loader whose calls are answered by hand. */
function createLoader() {
  const calls: { keys: readonly number[]; answer: () => void; fail: (error: Error) => void }[] = [];
  const load = (keys: readonly number[]) =>
    new Promise<string[]>((resolve, reject) => {
      calls.push({ keys, answer: () => resolve(keys.map((key) => `value ${key}`)), fail: reject });
    });
  return { calls, load };
}

it('joins what one turn asks into one call, and gives each asker its own value', async () => {
  const { calls, load } = createLoader();
  const find = joinCalls({ load, maximumKeys: 100, maximumCalls: 2, maximumWaiting: 100 });
  const answers = Promise.all([find(1), find(2), find(1)]);
  await setImmediate();
  expect(calls.map(({ keys }) => keys)).toEqual([[1, 2, 1]]);
  calls[0]?.answer();
  expect(await answers).toEqual(['value 1', 'value 2', 'value 1']);
});

it('asks at once for one alone', async () => {
  const { calls, load } = createLoader();
  const find = joinCalls({ load, maximumKeys: 100, maximumCalls: 2, maximumWaiting: 100 });
  const answer = find(7);
  await setImmediate();
  calls[0]?.answer();
  expect(await answer).toBe('value 7');
});

it('never adds to a call that is under way: its answer may be older than the question', async () => {
  const { calls, load } = createLoader();
  const find = joinCalls({ load, maximumKeys: 100, maximumCalls: 2, maximumWaiting: 100 });
  const first = find(1);
  await setImmediate();
  const second = find(1);
  await setImmediate();
  expect(calls).toHaveLength(2);
  for (const call of calls) call.answer();
  expect(await Promise.all([first, second])).toEqual(['value 1', 'value 1']);
});

it('bounds the keys of a call and the calls under way; what waits goes together', async () => {
  const { calls, load } = createLoader();
  const find = joinCalls({ load, maximumKeys: 2, maximumCalls: 2, maximumWaiting: 100 });
  const answers = Promise.all([1, 2, 3, 4, 5].map(find));
  await setImmediate();
  await setImmediate();
  expect(calls.map(({ keys }) => keys)).toEqual([
    [1, 2],
    [3, 4],
  ]);
  calls[0]?.answer();
  await setImmediate();
  await setImmediate();
  expect(calls[2]?.keys).toEqual([5]);
  calls[1]?.answer();
  calls[2]?.answer();
  expect(await answers).toHaveLength(5);
});

it('fails those of the failed call only, and goes on', async () => {
  const { calls, load } = createLoader();
  const find = joinCalls({ load, maximumKeys: 1, maximumCalls: 1, maximumWaiting: 100 });
  const outcomes = Promise.allSettled([find(1), find(2)]);
  await setImmediate();
  calls[0]?.fail(new Error('lost'));
  await setImmediate();
  await setImmediate();
  calls[1]?.answer();
  expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
});

it('refuses at once what would wait behind too many, and takes more when those are answered', async () => {
  const { calls, load } = createLoader();
  const find = joinCalls({ load, maximumKeys: 2, maximumCalls: 1, maximumWaiting: 2 });
  const under = Promise.all([find(1), find(2)]);
  await setImmediate();
  const waiting = Promise.all([find(3), find(4)]);
  await expect(find(5)).rejects.toThrow(DatabaseUnavailableError);
  calls[0]?.answer();
  await under;
  await setImmediate();
  const later = find(6);
  calls[1]?.answer();
  expect(await waiting).toEqual(['value 3', 'value 4']);
  await setImmediate();
  calls[2]?.answer();
  expect(await later).toBe('value 6');
});

it('says how long the first of those that wait has waited', async () => {
  const { calls, load } = createLoader();
  const find = joinCalls({ load, maximumKeys: 2, maximumCalls: 1, maximumWaiting: 10 });
  const first = find(1);
  expect(find.waitMs()).toBe(0);
  await setImmediate();
  const second = find(2);
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(find.waitMs()).toBeGreaterThan(50);
  calls[0]?.answer();
  await first;
  await setImmediate();
  expect(find.waitMs()).toBe(0);
  calls[1]?.answer();
  await second;
});
