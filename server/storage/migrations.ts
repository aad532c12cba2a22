import { readdir } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import type { Knex } from 'knex';
import knexfile from '../../knexfile.ts';

// Any number, the same in every release: whoever holds it migrates, everybody else waits.
const migrationLock = 7_301_441;
const lockRetryMs = 100;

/**
 * The names of migrations that this release has and the database does not. Only looks. A database that is ahead is
 * none of an older release's business: migrations are safe while it still runs.
 */
export async function pendingMigrations(knex: Knex): Promise<string[]> {
  const { directory, tableName } = knexfile.migrations as { directory: string; tableName: string };
  const known = (await readdir(directory)).filter((name) => name.endsWith('.ts')).sort();
  const { rows } = await knex.raw('SELECT to_regclass(?) AS name', [tableName]);
  if (!rows[0]?.name) return known;
  const applied = new Set(await knex(tableName).pluck('name'));
  return known.filter((name) => !applied.has(name));
}

/**
 * Brings the schema up to date. Safe to call from several processes at once: they queue on an advisory lock. It is a
 * transaction's, which ends with its connection, and stays on one connection behind a pooler too; it holds nothing else.
 * Knex's own lock is a row that a killed process leaves behind, so the holder frees it.
 * @param knex of a database without limits of time: a migration takes as long as it takes
 */
export async function migrate(knex: Knex): Promise<void> {
  await knex.transaction(async (lock) => {
    await lock.raw('SET LOCAL idle_in_transaction_session_timeout = 0');
    while (!(await tryLock(lock))) await setTimeout(lockRetryMs);
    if ((await pendingMigrations(knex)).length === 0) return;
    await knex.migrate.forceFreeMigrationsLock();
    await knex.migrate.latest();
  });
}

/**
 * Once, to be asked for again, and without bindings: a query that waits holds a snapshot, and so does the portal that one
 * with bindings leaves open. An index that is built concurrently waits for the end of every snapshot.
 */
async function tryLock(transaction: Knex.Transaction): Promise<boolean> {
  const { rows } = await transaction.raw(`SELECT pg_try_advisory_xact_lock(${migrationLock}) AS locked`);
  return rows[0].locked;
}
