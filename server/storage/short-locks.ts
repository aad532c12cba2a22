import { setTimeout } from 'node:timers/promises';
import type { Knex } from 'knex';

const waitMs = 200;
const tries = 600;

/**
 * A migration's step that needs a table for itself, in a transaction of its own: gives up before anything that waits behind
 * it would notice, and tries again.
 */
export async function withShortLocks(
  knex: Knex,
  work: (transaction: Knex.Transaction) => PromiseLike<unknown>,
): Promise<void> {
  for (let left = tries; ; left -= 1) {
    try {
      await knex.transaction(async (transaction) => {
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
