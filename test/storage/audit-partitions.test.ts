import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { policy } from '../../config/policy.ts';
import type { Database } from '../../server/storage/database.ts';
import { createStores, type Stores } from '../../server/storage/stores.ts';
import { eventWriters, month, monthName, sealWritten } from '../support/audit.ts';
import { createTestDatabase } from '../support/harness.ts';

let database: Database;
let drop: () => Promise<void>;
let stores: Stores;
beforeEach(async () => {
  ({ database, drop } = await createTestDatabase());
  stores = createStores(database, () => {});
});
afterEach(async () => {
  await stores.usage.close();
  await drop();
});

type Trail = 'audit_events' | 'exchange_events';

const lastOf = (from: number) => new Date(month(from + 1).getTime() - 1);

const record = (trail: Trail, ...times: Date[]): Promise<void> =>
  eventWriters(stores)[trail === 'audit_events' ? 'audit' : 'exchange'](times);
async function partitions(trail: Trail): Promise<string[]> {
  const { rows } = await database.knex.raw(
    'SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = ?::regclass ORDER BY 1',
    [trail],
  );
  return rows.map(({ name }: { name: string }) => name.replace(`${trail}_`, ''));
}
async function held(trail: Trail): Promise<[string, string][]> {
  const { rows } = await database.knex.raw(
    `SELECT tableoid::regclass::text AS name, at FROM ${trail} ORDER BY at`,
  );
  return rows.map(({ name, at }: { name: string; at: Date }) => [
    name.replace(`${trail}_`, ''),
    at.toISOString(),
  ]);
}
/** As if it were made now: what the migration has made is dropped. */
const without = (trail: Trail, ...months: number[]) =>
  database.knex.raw(months.map((from) => `DROP TABLE ${trail}_${monthName(from)};`).join(''));
const sweep = () => stores.auditTrail.deleteExpired();

describe.each<[Trail, number]>([
  ['audit_events', policy.auditEventMonths],
  ['exchange_events', policy.exchangeEventMonths],
])('%s', (trail, kept) => {
  it('has three months from the migration, and takes what is outside of them', async () => {
    expect(await partitions(trail)).toEqual([...[0, 1, 2].map(monthName), 'default']);
    await record(trail, new Date('2001-01-01T00:00:00Z'), new Date('2101-01-01T00:00:00Z'));
    expect((await held(trail)).map(([name]) => name)).toEqual(['default', 'default']);
  });

  it('gets this month and the next two, and moves there what came before', async () => {
    await without(trail, 0, 2);
    await record(trail, lastOf(-1), month(0), lastOf(0), month(2), month(3));
    expect(await sweep()).toBe(0);
    expect(await partitions(trail)).toEqual([...[-1, 0, 1, 2].map(monthName), 'default']);
    expect(await held(trail)).toEqual([
      [monthName(-1), lastOf(-1).toISOString()],
      [monthName(0), month(0).toISOString()],
      [monthName(0), lastOf(0).toISOString()],
      [monthName(2), month(2).toISOString()],
      ['default', month(3).toISOString()],
    ]);
    // What is made later has the indexes, and with them the key that a second try relies on; and it only grows.
    const indexes = async (from: number) => {
      const { rows } = await database.knex.raw(
        "SELECT count(*)::int AS indexes FROM pg_indexes WHERE schemaname = 'public' AND tablename = ?",
        [`${trail}_${monthName(from)}`],
      );
      return rows[0].indexes;
    };
    expect(await indexes(2)).toBe(await indexes(1));
    for (const part of [monthName(2), 'default', monthName(1)]) {
      await expect(database.knex.raw(`TRUNCATE ${trail}_${part}`)).rejects.toMatchObject({ code: '42501' });
    }
    for (const change of ['DELETE FROM', 'UPDATE'] as const) {
      const set = change === 'UPDATE' ? " SET user_agent = 'x'" : '';
      for (const part of [monthName(2), 'default'])
        await expect(database.knex.raw(`${change} ${trail}_${part}${set}`)).rejects.toMatchObject({
          message: expect.stringContaining('the audit trail only grows'),
        });
    }
  });

  it('loses months when all of them is old enough and sealed, and what is older in no partition', async () => {
    await record(trail, new Date('2001-01-01T00:00:00Z'), lastOf(-kept - 1), month(-kept));
    // Nothing that is not sealed.
    expect(await sweep()).toBe(0);
    expect(await partitions(trail)).toEqual(
      expect.arrayContaining(['2001_01', monthName(-kept - 1), monthName(-kept)]),
    );
    await sealWritten(database, stores);
    expect(await sweep()).toBe(2);
    expect(await held(trail)).toEqual([[monthName(-kept), month(-kept).toISOString()]]);
    // What came from nowhere makes no months: the default partition has it.
    await record(trail, new Date('1999-01-01T00:00:00Z'), new Date('2101-01-01T00:00:00Z'));
    expect(await sweep()).toBe(0);
    expect((await held(trail)).map(([name]) => name)).toEqual(['default', monthName(-kept), 'default']);
  });

  it('waits for no reader for long, holds up no write, and does it at the next sweep', async () => {
    await without(trail, 2);
    await record(trail, month(-kept - 1));
    await sweep();
    await sealWritten(database, stores);
    const reader = await database.knex.transaction();
    await reader.raw(`SELECT count(*) FROM ${trail}`);
    const start = Date.now();
    const swept = expect(sweep()).rejects.toMatchObject({ code: '55P03' });
    const times: number[] = [];
    while (Date.now() - start < 600) {
      const sent = Date.now();
      await record(trail, new Date());
      times.push(Date.now() - sent);
    }
    await swept;
    expect(Math.max(...times)).toBeLessThan(450);
    expect(await partitions(trail)).toContain(monthName(-kept - 1));
    await reader.commit();
    expect(await sweep()).toBe(1);
    expect(await partitions(trail)).not.toContain(monthName(-kept - 1));
  });

  it('is swept by several at once', async () => {
    await without(trail, 0, 1, 2);
    await record(trail, month(0));
    await Promise.all(Array.from({ length: 5 }, sweep));
    await sweep();
    expect(await partitions(trail)).toEqual([...[0, 1, 2].map(monthName), 'default']);
    expect(await held(trail)).toEqual([[monthName(0), month(0).toISOString()]]);
  });

  it('is kept by the database for as long as the policy says', async () => {
    const { rows } = await database.knex.raw('SELECT audit_retention_months(?) AS months', [trail]);
    expect(rows).toEqual([{ months: kept }]);
  });
});
