import { setTimeout } from 'node:timers/promises';
import type { Knex } from 'knex';

const waitMs = 200;
const vacuumWaitMs = 5_000;
const tries = 600;

/**
 * A migration's step that needs a table for itself, in a transaction of its own: gives up before anything that waits behind
 * it would notice, and tries again.
 * @param tables of which an autovacuum may be at work. PostgreSQL ends it for who has waited for longer than `deadlock_timeout`, so
 *   they are first waited for by a lock that no reader and no writer waits behind
 */
export async function withShortLocks(
  knex: Knex,
  tables: readonly string[],
  work: (transaction: Knex.Transaction) => PromiseLike<unknown>,
): Promise<void> {
  for (let left = tries; ; left -= 1) {
    try {
      await knex.transaction(async (transaction) => {
        await transaction.raw(`SET LOCAL lock_timeout = '${vacuumWaitMs}ms'`);
        for (const table of tables)
          await transaction.raw('LOCK TABLE ?? IN SHARE UPDATE EXCLUSIVE MODE', [table]);
        await transaction.raw(`SET LOCAL lock_timeout = '${waitMs}ms'`);
        await work(transaction);
      });
      return;
    } catch (error) {
      if ((error as { code?: unknown }).code !== '55P03' || left === 0) throw error;
      await setTimeout(waitMs);
    }
  }
}
