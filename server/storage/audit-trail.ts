import type { Knex } from 'knex';
import { policy } from '../../config/policy.ts';

/** The tables of the trail, a partition a month (UTC) each. */
export const trails = ['audit_events', 'exchange_events'] as const;

/** Sealed events; see migrations/20261126120000_audit_batches.ts. */
export interface SealedBatch {
  readonly seq: number;
  /** Hexadecimal. */
  readonly hash: string;
  readonly trail: (typeof trails)[number];
  readonly events: number;
}

export type AuditTrail = ReturnType<typeof createAuditTrail>;

/** What is done to the trail as a whole: by functions that run as its owner, for this role may only read and insert. */
export function createAuditTrail(knex: Knex) {
  /** In a transaction of its own, which gives up before anything that waits behind it would notice. */
  async function change(
    name: 'audit_make_partition' | 'audit_drop_partition',
    trail: string,
  ): Promise<boolean> {
    return knex.transaction(async (transaction) => {
      await transaction.raw(`SET LOCAL lock_timeout = ${policy.sweepLockTimeoutMs}`);
      const { rows } = await transaction.raw(`SELECT ${name}(?) AS partition`, [trail]);
      return rows[0].partition !== null;
    });
  }

  return {
    /**
     * Makes this month's partition and the next ones, and drops those that are old: what one sweep cannot do, because
     * somebody reads the table, the next one does.
     * @returns how many were dropped
     */
    async deleteExpired(): Promise<number> {
      let dropped = 0;
      const failures: unknown[] = [];
      for (const trail of trails) {
        try {
          while (await change('audit_make_partition', trail));
        } catch (error) {
          failures.push(error);
        }
        try {
          while (await change('audit_drop_partition', trail)) dropped += 1;
        } catch (error) {
          failures.push(error);
        }
      }
      if (failures.length > 0) throw failures[0];
      return dropped;
    },

    /** Seals what no batch has yet, at most so many events of each table. Of instances that do so at once, one does. */
    async seal(most: number = policy.auditBatch): Promise<SealedBatch[]> {
      const { rows } = await knex.raw('SELECT seq, hash, trail, events FROM audit_seal(?)', [most]);
      return (rows as (Omit<SealedBatch, 'seq' | 'hash'> & { seq: string; hash: Buffer })[]).map(
        ({ seq, hash, ...batch }) => ({ ...batch, seq: Number(seq), hash: hash.toString('hex') }),
      );
    },
  };
}
