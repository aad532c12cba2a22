import { setTimeout } from 'node:timers/promises';
import type { Knex } from 'knex';
import { policy } from '../../config/policy.ts';

const deletionOf = (condition: string, moment: string): string =>
  `DELETE FROM platform_tokens WHERE id IN (
     SELECT id FROM platform_tokens WHERE ${condition} AND ${moment} <= ?
     ORDER BY ${moment} LIMIT ? FOR UPDATE SKIP LOCKED)`;
/** Each by an index of its own: the tokens that expired, and those that were revoked, before their expiry or after it. */
export const deletions = [
  deletionOf('revoked_at IS NULL', 'expires_at'),
  deletionOf('revoked_at IS NOT NULL', 'LEAST(revoked_at, expires_at)'),
] as const;

export type Retention = ReturnType<typeof createRetention>;

export function createRetention(knex: Knex) {
  return {
    /**
     * Deletes the platform tokens whose life ended long ago, in short transactions with a pause after each, up to a bound;
     * instances that do so at once pass over each other's rows. Their events stay, with their `token_id`. Their places in
     * the status lists read VALID from then on: the last JWT of such a token expired hours after the token's end.
     */
    async deleteExpired(now: Date, batch: number = policy.retentionBatch): Promise<number> {
      const before = new Date(now.getTime() - policy.endedTokenRetention * 1000);
      let [total, batches] = [0, 0];
      for (const deletion of deletions) {
        for (
          let deleted = batch;
          deleted === batch && batches < policy.retentionBatchesASweep;
          batches += 1
        ) {
          deleted = await knex.transaction(async (transaction) => {
            await transaction.raw(`SET LOCAL lock_timeout = ${policy.sweepLockTimeoutMs}`);
            const { rowCount } = await transaction.raw(deletion, [before, batch]);
            return rowCount as number;
          });
          total += deleted;
          await setTimeout(policy.retentionPauseMs);
        }
      }
      return total;
    },
  };
}
