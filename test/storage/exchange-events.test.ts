import { v7 as uuidv7 } from 'uuid';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Database } from '../../server/storage/database.ts';
import { createExchangeEvents, type ExchangeEvents } from '../../server/storage/exchange-events.ts';
import { createTestDatabase } from '../support/harness.ts';

let database: Database;
let drop: () => Promise<void>;
let exchangeEvents: ExchangeEvents;
beforeEach(async () => {
  ({ database, drop } = await createTestDatabase());
  exchangeEvents = createExchangeEvents(database.knex);
});
afterEach(() => drop());

const record = async (...times: string[]) => {
  const one = { organizationId: uuidv7(), tokenId: uuidv7(), serviceId: 'tms', ip: null, userAgent: null };
  const events = times.map((at) => ({ ...one, id: uuidv7(), at: new Date(at), requestId: null, count: 1 }));
  await exchangeEvents.insert(events);
};
const partitions = async (): Promise<string[]> => {
  const { rows } = await database.knex.raw(
    "SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'exchange_events'::regclass ORDER BY 1",
  );
  return rows.map(({ name }: { name: string }) => name.replace('exchange_events_', ''));
};
const held = async (): Promise<[string, string][]> => {
  const { rows } = await database.knex.raw(
    'SELECT tableoid::regclass::text AS name, at FROM exchange_events ORDER BY at',
  );
  return rows.map(({ name, at }: { name: string; at: Date }) => [
    name.replace('exchange_events_', ''),
    at.toISOString(),
  ]);
};

it('has three months from the migration, and takes what is outside of them', async () => {
  const now = new Date();
  const months = [0, 1, 2].map((ahead) =>
    new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + ahead, 1))
      .toISOString()
      .slice(0, 7)
      .replace('-', '_'),
  );
  expect(await partitions()).toEqual([...months, 'default']);
  await record('2001-01-01T00:00:00Z', '2101-01-01T00:00:00Z');
  expect((await held()).map(([name]) => name)).toEqual(['default', 'default']);
});

it('makes this month and the next two, and moves there what came before', async () => {
  await record('2040-11-30T23:59:59.999Z', '2040-12-31T23:59:59.999Z', '2041-01-01T00:00:00Z');
  await exchangeEvents.deleteExpired(new Date('2040-12-31T23:59:59Z'));
  expect(await partitions()).toEqual(expect.arrayContaining(['2040_12', '2041_01', '2041_02', 'default']));
  expect(await held()).toEqual([
    ['default', '2040-11-30T23:59:59.999Z'],
    ['2040_12', '2040-12-31T23:59:59.999Z'],
    ['2041_01', '2041-01-01T00:00:00.000Z'],
  ]);
  // What is made later has the indexes, and the key that a second try relies on.
  const { rows } = await database.knex.raw(
    "SELECT count(*)::int AS indexes FROM pg_indexes WHERE tablename = 'exchange_events_2040_12'",
  );
  expect(rows).toEqual([{ indexes: 3 }]);
});

it('drops months when all of them is 13 months old, and what is older in no partition', async () => {
  await exchangeEvents.deleteExpired(new Date('2040-01-15T00:00:00Z'));
  await record('2039-12-31T00:00:00Z', '2040-01-31T23:59:59Z', '2040-02-01T00:00:00Z');
  expect(await exchangeEvents.deleteExpired(new Date('2041-02-28T23:59:59Z'))).toBe(0);
  expect(await held()).toEqual([
    ['2040_01', '2040-01-31T23:59:59.000Z'],
    ['2040_02', '2040-02-01T00:00:00.000Z'],
  ]);
  expect(await exchangeEvents.deleteExpired(new Date('2041-03-01T00:00:00Z'))).toBe(1);
  expect(await held()).toEqual([['2040_02', '2040-02-01T00:00:00.000Z']]);
});

it('waits for no reader for long, holds up no write, and does it at the next sweep', async () => {
  await exchangeEvents.deleteExpired(new Date('2040-01-15T00:00:00Z'));
  await record('2040-01-15T00:00:00Z');
  const later = new Date('2041-03-01T00:00:00Z');
  const reader = await database.knex.transaction();
  await reader.raw('SELECT count(*) FROM exchange_events');
  const start = Date.now();
  const sweep = expect(exchangeEvents.deleteExpired(later)).rejects.toMatchObject({ code: '55P03' });
  const times: number[] = [];
  while (Date.now() - start < 600) {
    const sent = Date.now();
    await record('2040-02-15T00:00:00Z');
    times.push(Date.now() - sent);
  }
  await sweep;
  expect(Math.max(...times)).toBeLessThan(450);
  expect(await partitions()).toContain('2040_01');
  await reader.commit();
  await exchangeEvents.deleteExpired(later);
  expect(await partitions()).toEqual(expect.arrayContaining(['2041_03', '2041_05']));
  expect(await partitions()).not.toContain('2040_01');
});

it('is swept by several at once', async () => {
  const now = new Date('2040-01-15T00:00:00Z');
  await record('2040-01-15T00:00:00Z');
  await Promise.all(Array.from({ length: 5 }, () => exchangeEvents.deleteExpired(now)));
  await exchangeEvents.deleteExpired(now);
  expect(await partitions()).toEqual(expect.arrayContaining(['2040_01', '2040_02', '2040_03']));
  expect(await held()).toEqual([['2040_01', '2040-01-15T00:00:00.000Z']]);
});
