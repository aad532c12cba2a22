import { expect, it } from 'vitest';
import { createDatabaseClock } from '../../server/storage/database-clock.ts';

/** A database whose clock is so far ahead of ours, and which takes so long to say so. */
function databaseAhead(state: { ms: number; tookMs?: number; away?: boolean }) {
  const query = async () => {
    if (state.away) throw new Error('Connection terminated');
    const ms = Date.now() + state.ms;
    await new Promise((resolve) => setTimeout(resolve, state.tookMs ?? 0));
    return { rows: [{ ms: String(ms) }] };
  };
  return { lookups: { query } } as never;
}
const ahead = (clock: { now: () => Date }) => clock.now().getTime() - Date.now();

it.each([-300_000, 300_000])('goes by a clock that is %i ms ahead', async (ms) => {
  const measured: number[] = [];
  const clock = createDatabaseClock(databaseAhead({ ms }), (offset) => measured.push(offset));
  expect(Math.abs(ahead(clock))).toBeLessThan(100);
  await clock.measure();
  expect(Math.abs(ahead(clock) - ms)).toBeLessThan(1_000);
  expect(Math.abs(Number(measured[0]) - ms)).toBeLessThan(1_000);
  clock.close();
});

it('leaves a clock alone that is right but for the measure itself', async () => {
  const clock = createDatabaseClock(databaseAhead({ ms: 200 }));
  await clock.measure();
  expect(clock.offsetMs()).toBe(0);
  clock.close();
});

it('keeps what it measured where the database is away or slow, and follows it afterwards', async () => {
  const state: Parameters<typeof databaseAhead>[0] = { ms: 60_000 };
  const clock = createDatabaseClock(databaseAhead(state));
  await clock.measure();
  state.away = true;
  await clock.measure();
  expect(Math.abs(clock.offsetMs() - 60_000)).toBeLessThan(1_000);
  Object.assign(state, { away: false, ms: 0, tookMs: 1_100 });
  await clock.measure();
  expect(Math.abs(clock.offsetMs() - 60_000)).toBeLessThan(1_000);
  state.tookMs = 0;
  await clock.measure();
  expect(clock.offsetMs()).toBe(0);
  clock.close();
});

it('heeds a slow database too, where it is further off than the answer took', async () => {
  const clock = createDatabaseClock(databaseAhead({ ms: -300_000, tookMs: 1_100 }));
  await clock.measure();
  expect(Math.abs(clock.offsetMs() + 300_000)).toBeLessThan(2_000);
  clock.close();
});
