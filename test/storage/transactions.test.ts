import { setImmediate } from 'node:timers/promises';
import type { Knex } from 'knex';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { policy } from '../../config/policy.ts';
import { createDatabase, type Database } from '../../server/storage/database.ts';
import { DatabaseUnavailableError } from '../../server/storage/failures.ts';
import { createDoor, type Door } from '../support/door.ts';
import { createTestDatabase } from '../support/harness.ts';

/** Rows of a table of the test's own, by way of a door that loses what it is told to. */
let direct: Awaited<ReturnType<typeof createTestDatabase>>;
let door: Door;
let database: Database;
const errors: unknown[] = [];
beforeAll(async () => {
  direct = await createTestDatabase();
  await direct.database.knex.raw('CREATE TABLE noted (id int PRIMARY KEY, note text)');
  await direct.database.knex.raw("INSERT INTO noted SELECT n, 'before' FROM generate_series(1, 2) n");
  door = await createDoor(new URL(direct.url));
  database = createDatabase({
    connectionString: door.urlOf(direct.url),
    onError: (error) => void errors.push(error),
  });
});
afterAll(async () => {
  await database.close();
  await door.shut();
  await direct.drop();
});
afterEach(async () => {
  await direct.database.knex('noted').where('id', '>', 2).delete();
  expect(errors).toEqual([]);
});

const insert = (id: number) => (transaction: Knex.Transaction) =>
  transaction('noted').insert({ id, note: 'new' });
const isThere = async (id: number) =>
  (await direct.database.knex('noted').where({ id }).first('id')) !== undefined;

describe('a COMMIT whose answer is lost', () => {
  it('was done: the transaction has succeeded, and is not done again', async () => {
    let runs = 0;
    door.loseCommits(1, { sent: true });
    await database.transact(async (transaction) => {
      runs += 1;
      await insert(10)(transaction);
    });
    expect([runs, door.losing(), await isThere(10)]).toEqual([1, false, true]);
  });

  it('was not done: the transaction is done again', async () => {
    let runs = 0;
    door.loseCommits(1, { sent: false });
    await database.transact(async (transaction) => {
      runs += 1;
      await insert(11)(transaction);
    });
    expect([runs, door.losing(), await isThere(11)]).toEqual([2, false, true]);
  });

  it('cannot be asked for: the caller is told that it failed, and what is there is undone', async () => {
    door.loseCommits(1, { sent: true, shuts: true });
    let undone = 0;
    const work = database.transact(insert(12), {
      async undo(_, transaction) {
        await transaction('noted').where({ id: 12 }).delete();
        undone += 1;
      },
    });
    await expect(work).rejects.toThrow(DatabaseUnavailableError);
    expect(door.losing()).toBe(false);
    expect([undone, await isThere(12)]).toEqual([0, true]);
    await door.open();
    // What undoes it is itself committed a moment later.
    await expect.poll(() => isThere(12), { timeout: 10_000 }).toBe(false);
    expect(undone).toBe(1);
  }, 20_000);

  it('was not done and cannot be asked for: there is nothing to undo', async () => {
    door.loseCommits(1, { sent: false, shuts: true });
    let undone = 0;
    const work = database.transact(insert(13), {
      async undo() {
        undone += 1;
      },
    });
    await expect(work).rejects.toThrow(DatabaseUnavailableError);
    expect(door.losing()).toBe(false);
    await door.open();
    await expect.poll(async () => (await database.faults()).length).toBe(0);
    expect([undone, await isThere(13)]).toEqual([0, false]);
  }, 20_000);
});

it('a transaction is done again where its connection was cut before the COMMIT', async () => {
  let runs = 0;
  await database.transact(async (transaction) => {
    runs += 1;
    if (runs === 1) {
      const { rows } = await transaction.raw('SELECT pg_backend_pid() AS pid');
      await direct.database.knex.raw('SELECT pg_terminate_backend(?)', [rows[0].pid]);
    }
    await insert(14)(transaction);
  });
  expect([runs, await isThere(14)]).toEqual([2, true]);
});

it('one of two that deadlock is done again, and both succeed', async () => {
  const met = Promise.withResolvers<void>();
  let arrived = 0;
  let runs = 0;
  const update = (first: number, second: number) =>
    database.transact(async (transaction) => {
      runs += 1;
      await transaction('noted')
        .where({ id: first })
        .update({ note: `${first}` });
      arrived += 1;
      if (arrived === 2) met.resolve();
      await met.promise;
      await transaction('noted')
        .where({ id: second })
        .update({ note: `${first}` });
    });
  await Promise.all([update(1, 2), update(2, 1)]);
  expect(runs).toBeGreaterThanOrEqual(3);
});

it('an error of the work is the caller’s, at once, and undoes all', async () => {
  let runs = 0;
  const work = database.transact(async (transaction) => {
    runs += 1;
    await insert(15)(transaction);
    throw new RangeError('not so');
  });
  await expect(work).rejects.toThrow(RangeError);
  expect([runs, await isThere(15)]).toEqual([1, false]);
});

it('a lock is waited for no longer than it may', async () => {
  const held = Promise.withResolvers<void>();
  const holding = direct.database.knex.transaction(async (transaction) => {
    await transaction('noted').where({ id: 1 }).forUpdate().first('id');
    await held.promise;
  });
  const before = performance.now();
  const waiting = database.transact((transaction) =>
    transaction('noted').where({ id: 1 }).update({ note: 'waited' }),
  );
  await expect(waiting).rejects.toMatchObject({ code: '55P03' });
  expect(performance.now() - before).toBeLessThan(policy.lockTimeoutMs + 2_000);
  held.resolve();
  await holding;
}, 15_000);

it('PostgreSQL ends a transaction that falls silent while it holds a lock', async () => {
  const { rows } = await database.transact(async (transaction) => {
    await transaction.raw('SELECT 1');
    return transaction.raw(
      "SELECT current_setting('idle_in_transaction_session_timeout') AS idle, current_setting('lock_timeout') AS lock",
    );
  });
  expect(rows).toEqual([{ idle: '10s', lock: '3s' }]);
  // And not beyond it: behind a pooler the connection is somebody else's next.
  const after = await database.knex.raw(
    "SELECT current_setting('idle_in_transaction_session_timeout') AS idle",
  );
  expect(after.rows).toEqual([{ idle: '0' }]);
});

describe('what waits for a connection', () => {
  it('is bounded: one more is refused at once', async () => {
    const held = Promise.withResolvers<void>();
    const holding = Array.from({ length: 10 }, () => database.transact(() => held.promise));
    await expect
      .poll(() => (database.knex.client as { pool: { numUsed(): number } }).pool.numUsed())
      .toBe(10);
    // A query of Knex begins when it is awaited.
    const ask = async () => await database.knex.raw('SELECT 1');
    const waiting = Array.from({ length: policy.waitingQueries }, ask);
    const before = performance.now();
    await expect(ask()).rejects.toThrow(DatabaseUnavailableError);
    expect(performance.now() - before).toBeLessThan(500);
    held.resolve();
    await Promise.all([...holding, ...waiting]);
  });

  it('of the look-ups likewise', async () => {
    const slow = Array.from({ length: 5 }, () => database.lookups.query('SELECT pg_sleep(0.5)'));
    await setImmediate();
    const waiting = Array.from({ length: policy.waitingQueries }, () => database.lookups.query('SELECT 1'));
    await expect(database.lookups.query('SELECT 1')).rejects.toThrow(DatabaseUnavailableError);
    await Promise.all([...slow, ...waiting]);
  });
});

it('a look-up whose connection is cut is asked on another one', async () => {
  const pids = async () => (await database.lookups.query('SELECT pg_backend_pid() AS pid')).rows[0].pid;
  const sleeping = database.lookups.query("SELECT pg_sleep(0.3), 'woken' AS state");
  await direct.database.knex.raw(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(0.3)%' AND pid <> pg_backend_pid()",
  );
  expect((await sleeping).rows).toMatchObject([{ state: 'woken' }]);
  expect(await pids()).toBeTypeOf('number');
});

it('connections are made anew where the server takes no writes: its address may lead elsewhere by now', async () => {
  const pid = async () => (await database.knex.raw('SELECT pg_backend_pid() AS pid')).rows[0].pid;
  const lookupPid = async () => (await database.lookups.query('SELECT pg_backend_pid() AS pid')).rows[0].pid;
  const before = [await pid(), await lookupPid()];
  await new Promise((resolve) => setTimeout(resolve, policy.connectionRenewalPauseMs));
  const readOnly = database.transact(async (transaction) => {
    await transaction.raw('SET LOCAL transaction_read_only = on');
    await insert(16)(transaction);
  });
  await expect(readOnly).rejects.toMatchObject({ code: '25006' });
  expect(before).not.toContain(await pid());
  expect(before).not.toContain(await lookupPid());
});

it('connections are made anew where one never answered: the others lead nowhere either, and nobody waits for them', {
  timeout: 60_000,
}, async () => {
  const all = [
    ...Array.from({ length: 6 }, () => database.knex.raw('SELECT pg_sleep(0.1)')),
    ...Array.from({ length: 3 }, () => database.lookups.query('SELECT pg_sleep(0.1)')),
  ];
  await Promise.all(all);
  await new Promise((resolve) => setTimeout(resolve, policy.connectionRenewalPauseMs));
  door.strand();
  await expect(database.transact(insert(17))).rejects.toThrow('Query read timeout');
  for (let n = 0; n < 6; n += 1) {
    await database.transact(insert(20 + n));
    await database.lookups.query('SELECT 1');
  }
  expect(await isThere(25)).toBe(true);
});
