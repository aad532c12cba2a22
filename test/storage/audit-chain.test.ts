import { v7 as uuidv7 } from 'uuid';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { policy } from '../../config/policy.ts';
import { verifyChain } from '../../server/storage/audit-chain.ts';
import type { Database } from '../../server/storage/database.ts';
import { createStores, type Stores } from '../../server/storage/stores.ts';
import { eventWriters, month, monthName, sealWritten } from '../support/audit.ts';
import { createTestDatabase } from '../support/harness.ts';

let database: Database;
let stores: Stores;
let write: ReturnType<typeof eventWriters>;
let drop: () => Promise<void>;
beforeEach(async () => {
  ({ database, drop } = await createTestDatabase());
  stores = createStores(database, () => {});
  write = eventWriters(stores);
});
afterEach(async () => {
  await stores.usage.close();
  await drop();
});

const verify = (noted?: string) => verifyChain(database.knex, noted);
const seal = (most?: number) => sealWritten(database, stores, most);
const times = (count: number, from = month(0)) =>
  Array.from({ length: count }, (_, n) => new Date(from.getTime() + n));

/** What only a superuser, or the owner, can do. */
async function tamper(statement: string, bindings: readonly (string | number)[] = []): Promise<void> {
  await database.knex.transaction(async (transaction) => {
    for (const table of ['audit_events', 'exchange_events', 'audit_batches'])
      await transaction.raw(`ALTER TABLE ${table} DISABLE TRIGGER USER`);
    const { rows } = await transaction.raw(
      "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent IN ('audit_events'::regclass, 'exchange_events'::regclass)",
    );
    for (const { name } of rows) await transaction.raw(`ALTER TABLE ${name} DISABLE TRIGGER USER`);
    await transaction.raw(statement, bindings as string[]);
  });
}
const newest = (table: string) => `(SELECT id FROM ${table} ORDER BY xid DESC, at DESC, id DESC LIMIT 1)`;

describe('what was changed is found:', () => {
  /** Batches 1 to 6: of audit events, exchanges, and both again, with a month of the past among them. */
  beforeEach(async () => {
    for (let round = 0; round < 2; round += 1) {
      await write.audit(times(3, month(-1)));
      await write.audit(times(4));
      await write.exchange(times(5));
      await stores.auditTrail.deleteExpired();
      await seal();
    }
    expect(await verify()).toMatchObject({ fault: undefined, batches: 6, events: 24, unsealed: 0 });
  });

  const columns = {
    audit_events:
      "id = gen_random_uuid(); at = at + interval '1 ms'; action = 'test.undone'; actor_type = 'user'; actor_id = 'other'; organization_id = NULL; token_id = id; target_id = NULL; ip = '192.0.2.2'; user_agent = NULL; request_id = ''; reason = ''; count = 2; xid = xid + 1",
    exchange_events:
      "id = gen_random_uuid(); at = at + interval '1 ms'; organization_id = id; token_id = id; service_id = 'tm'; ip = NULL; user_agent = ''; request_id = NULL; count = 2; xid = xid + 1",
  };
  it.each(
    Object.entries(columns).flatMap(([table, changes]) =>
      changes.split('; ').map((change) => [table, change] as const),
    ),
  )('in %s, %s', async (table, change) => {
    await tamper(`UPDATE ${table} SET ${change} WHERE id = ${newest(table)}`);
    expect((await verify()).fault).toMatch(
      new RegExp(
        `^batch ${table === 'audit_events' ? 5 : 6} \\(${table}, .*an event (was changed|is missing)$`,
      ),
    );
  });

  it('every column is one of those above', async () => {
    for (const [table, changes] of Object.entries(columns)) {
      const { rows } = await database.knex.raw(
        'SELECT column_name AS name FROM information_schema.columns WHERE table_name = ? ORDER BY 1',
        [table],
      );
      const changed = changes.split('; ').map((change) => change.split(' ')[0]);
      expect(rows.map(({ name }: { name: string }) => name)).toEqual(changed.sort());
    }
  });

  it.each<[string, string, RegExp]>([
    ['an event', `DELETE FROM audit_events WHERE id = ${newest('audit_events')}`, /^batch 5 .*is missing$/],
    [
      'an exchange',
      `DELETE FROM exchange_events WHERE id = ${newest('exchange_events')}`,
      /^batch 6 .*is missing$/,
    ],
    [
      'all of a month',
      `DELETE FROM audit_events WHERE at < '${month(0).toISOString()}'`,
      /^batch 1 .*gone before its time$/,
    ],
    ['a young partition', `DROP TABLE audit_events_${monthName(-1)}`, /^batch 1 .*gone before its time$/],
    ['a batch', 'DELETE FROM audit_batches WHERE seq = 3', /^batch 3 is missing$/],
    ['the first batch', 'DELETE FROM audit_batches WHERE seq = 1', /^batch 1 is missing$/],
    [
      'a batch whose number was given on',
      'DELETE FROM audit_batches WHERE seq = 3; UPDATE audit_batches SET seq = seq - 1 WHERE seq > 3',
      /^batch 3 does not follow batch 2: the link is broken$/,
    ],
    [
      'two batches that were swapped',
      'UPDATE audit_batches SET seq = -seq WHERE seq IN (2, 3); UPDATE audit_batches SET seq = 5 + seq WHERE seq < 0',
      /^batch 2 does not follow batch 1/,
    ],
    [
      'a batch of another size',
      'UPDATE audit_batches SET events = events + 1 WHERE seq = 2',
      /^batch 2 was changed$/,
    ],
    [
      'a batch of another month',
      "UPDATE audit_batches SET month = month - interval '1 month' WHERE seq = 2",
      /^batch 2 was changed$/,
    ],
    [
      'a batch of another time',
      "UPDATE audit_batches SET sealed_at = sealed_at - interval '1 ms' WHERE seq = 6",
      /^batch 6 was changed$/,
    ],
  ])('%s', async (_, statement, fault) => {
    await tamper(statement);
    expect((await verify()).fault).toMatch(fault);
  });

  const insert = (table: string, change: string) =>
    `INSERT INTO ${table} SELECT (jsonb_populate_record(e, ${change})).* FROM ${table} e WHERE id = ${newest(table)}`;
  it.each<[string, string, RegExp]>([
    [
      'within a batch',
      insert('audit_events', `jsonb_build_object('at', at - interval '1 ms')`),
      /^batch 5 .*was added$/,
    ],
    [
      'by hand, before all others',
      insert('audit_events', "jsonb_build_object('xid', 0, 'id', gen_random_uuid())"),
      /^batch 2 .*was added$/,
    ],
    [
      'after the last batch of its month, below what is sealed',
      insert('audit_events', `jsonb_build_object('at', at - interval '1 day')`),
      /^audit_events, .*: an event was added after the month's last batch$/,
    ],
    [
      'to a month without a batch',
      insert('exchange_events', `jsonb_build_object('at', at - interval '100 days')`),
      /^exchange_events: the event .* was added to a month that has no batch$/,
    ],
  ])('an event that was added %s', async (_, statement, fault) => {
    await tamper(statement);
    expect((await verify()).fault).toMatch(fault);
  });

  it('a chain that was cut at its end, or written anew, by the head that was noted', async () => {
    const { head } = await verify();
    expect((await verify(head?.hash)).fault).toBeUndefined();
    await write.exchange(times(1));
    await seal();
    expect((await verify(head?.hash)).fault).toBeUndefined();
    await tamper('DELETE FROM audit_batches WHERE seq > 5');
    expect(await verify()).toMatchObject({ fault: undefined, unsealed: 6 });
    expect((await verify(head?.hash)).fault).toMatch(/^no batch has the hash .*: the chain was cut/);
    await seal();
    expect((await verify()).fault).toBeUndefined();
    expect((await verify(head?.hash)).fault).toMatch(/^no batch has the hash/);
  });
});

describe('an honest trail is whole:', () => {
  it('with nothing in it, and with nothing sealed', async () => {
    expect(await seal()).toEqual([]);
    expect(await verify()).toEqual({
      batches: 0,
      events: 0,
      retired: 0,
      unsealed: 0,
      head: undefined,
      fault: undefined,
    });
    await write.audit(times(2));
    expect(await verify()).toMatchObject({ unsealed: 2, fault: undefined });
  });

  it('in batches of a few events, whichever month they are of', async () => {
    await write.exchange([...times(7), ...times(5, month(-1)), ...times(3, month(1))]);
    await write.audit(times(4));
    const sizes: number[][] = [];
    for (let batches = await seal(4); batches.length > 0; batches = await seal(4))
      sizes.push(batches.map(({ events }) => events));
    expect(sizes.flat().reduce((sum, size) => sum + size)).toBe(19);
    expect(Math.max(...sizes.map((round) => round.reduce((sum, size) => sum + size)))).toBe(8);
    await write.exchange(times(2));
    expect(await verify()).toMatchObject({ events: 19, unsealed: 2, fault: undefined });
    await stores.auditTrail.deleteExpired();
    // Where they lie is no part of it.
    expect(await verify()).toMatchObject({ events: 19, unsealed: 2, fault: undefined });
  });

  it('where months were dropped in their time', async () => {
    await write.exchange(times(3, month(-policy.exchangeEventMonths - 1)));
    await write.exchange(times(3, month(-policy.exchangeEventMonths)));
    await write.audit(times(3, month(-policy.exchangeEventMonths - 1)));
    await seal();
    expect(await stores.auditTrail.deleteExpired()).toBe(1);
    expect(await verify()).toMatchObject({ batches: 2, events: 6, retired: 1, fault: undefined });
    await tamper(`DROP TABLE exchange_events_${monthName(-policy.exchangeEventMonths)}`);
    expect((await verify()).fault).toMatch(/gone before its time$/);
  });

  it('of events from before they named their transaction', async () => {
    await tamper(
      `INSERT INTO exchange_events SELECT gen_random_uuid(), at, gen_random_uuid(), gen_random_uuid(), 'tms', NULL, NULL, NULL, 1, 0
       FROM generate_series(now() - interval '70 days', now() - interval '1 day', interval '1 hour') at`,
    );
    await write.exchange([new Date()]);
    let sealed = 0;
    for (let batches = await seal(500); batches.length > 0; batches = await seal(500))
      sealed += batches.reduce((sum, { events }) => sum + events, 0);
    expect(await verify()).toMatchObject({ events: sealed, unsealed: 0, fault: undefined });
    expect(sealed).toBe(69 * 24 + 2);
  });

  it('while events are written, transactions stay open, months move and several seal', async () => {
    const open = await Promise.all([1, 2].map(() => database.knex.transaction()));
    const [early, late] = open as [(typeof open)[0], (typeof open)[0]];
    await write.audit(times(2), early);
    let writing = true;
    const writers = [1, 2, 3].map(async (n) => {
      for (; writing; n += 1) {
        await write.exchange([new Date(), month(-(n % 3))]);
        await write.audit([new Date()]);
      }
    });
    const sealers = [3, 5, 1000].map(async (most) => {
      while (writing) await stores.auditTrail.seal(most);
    });
    const reports = [];
    await write.audit(times(1), late);
    for (let round = 0; round < 12; round += 1) {
      reports.push(await verify());
      if (round === 3) await early.commit();
      if (round === 6) await stores.auditTrail.deleteExpired();
      if (round === 8) await late.rollback();
    }
    writing = false;
    await Promise.all([...writers, ...sealers]);
    while ((await seal()).length > 0);
    const { rows } = await database.knex.raw(
      'SELECT (SELECT count(*)::int FROM exchange_events) + (SELECT count(*)::int FROM audit_events) AS events',
    );
    expect(reports.map(({ fault }) => fault)).toEqual(reports.map(() => undefined));
    expect(await verify()).toMatchObject({ fault: undefined, unsealed: 0, events: rows[0].events });
    expect(rows[0].events).toBeGreaterThan(20);
  }, 60_000);

  it('and no writer waits for the sealer', async () => {
    await write.audit(times(3));
    await database.knex.transaction(async (sealing) => {
      await expect
        .poll(async () => (await sealing.raw('SELECT * FROM audit_seal(10)')).rows, { timeout: 10_000 })
        .toHaveLength(1);
      await write.audit(times(1));
      await write.exchange(times(1));
      expect(await stores.auditTrail.seal()).toEqual([]);
    });
    expect((await seal()).map(({ trail }) => trail)).toEqual(['audit_events', 'exchange_events']);
    expect((await verify()).fault).toBeUndefined();
  });

  it('after a restore into a server that has counted fewer transactions', async () => {
    await write.audit(times(3));
    await seal();
    // As if the events came from a server that is a million ahead.
    await tamper('UPDATE audit_events SET xid = xid + 1000000; DELETE FROM audit_batches');
    await database.knex.raw(
      `CREATE OR REPLACE FUNCTION audit_xid(xid8) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT
      PARALLEL SAFE RETURN $1::text::bigint + 1000000`,
    );
    await seal();
    await database.knex.raw(`CREATE OR REPLACE FUNCTION audit_xid(xid8) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT
      PARALLEL SAFE RETURN $1::text::bigint + 0`);
    // What a server does first.
    await stores.auditTrail.seal();
    await write.audit(times(2));
    expect(await seal()).toMatchObject([{ seq: 2, events: 2 }]);
    expect(await verify()).toMatchObject({ fault: undefined, events: 5, unsealed: 0 });
  });
});

it('says since when events are not sealed', async () => {
  expect(await stores.auditTrail.unsealedSince()).toBeUndefined();
  const [first, second] = times(2, month(-1)) as [Date, Date];
  await write.exchange([second]);
  expect(await stores.auditTrail.unsealedSince()).toEqual(second);
  await write.audit([first]);
  expect(await stores.auditTrail.unsealedSince()).toEqual(first);
  await seal();
  expect(await stores.auditTrail.unsealedSince()).toBeUndefined();
  await write.exchange(times(3));
  expect(await stores.auditTrail.unsealedSince()).toEqual(month(0));
});

it('says so of events from before they named their transaction too', async () => {
  const old = new Date('2026-01-02T03:04:05.678Z');
  await tamper(
    "INSERT INTO audit_events (id, at, action, actor_type, actor_id, xid) VALUES (gen_random_uuid(), ?, 'test.done', 'system', 'test', 0)",
    [old.toISOString()],
  );
  await write.audit(times(1));
  expect(await stores.auditTrail.unsealedSince()).toEqual(old);
});

it('seals by an index: what is sealed is not read again', async () => {
  await write.exchange(times(2000));
  await seal();
  await database.knex.raw('ANALYZE');
  const { rows } = await database.knex.raw(
    `EXPLAIN SELECT e.* FROM exchange_events e WHERE e.xid > 0 AND e.xid >= ? AND e.xid < ? AND (e.xid, e.at, e.id) > (?, ?, ?)
     ORDER BY e.xid, e.at, e.id LIMIT 10000`,
    [1e6, 2e6, 1e6, new Date(), uuidv7()],
  );
  const plan = rows.map((line: Record<string, string>) => line['QUERY PLAN']).join('\n');
  expect(plan).toMatch(/Scan using exchange_events_\d{4}_\d{2}_xid/);
  expect(plan).not.toContain(`Seq Scan on exchange_events_${monthName(0)}`);
});
