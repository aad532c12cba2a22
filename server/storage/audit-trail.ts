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

    /** @returns the time of the first event that no batch has; undefined where all are sealed */
    async unsealedSince(): Promise<Date | undefined> {
      const { rows } = await knex.raw(
        `SELECT min(at) AS at FROM (${trails.map(firstUnsealed).join(' UNION ALL ')}) e`,
      );
      return rows[0].at ?? undefined;
    },
  };
}

/** In the order in which `audit_seal` takes them: those without a transaction first. */
const firstUnsealed = (trail: string) => `SELECT least(
  (SELECT e.at FROM ${trail} e WHERE e.xid = 0 AND p.xid = 0 AND (e.at, e.id) > (p.at, p.id) ORDER BY e.at, e.id LIMIT 1),
  (SELECT e.at FROM ${trail} e WHERE e.xid > 0 AND e.xid >= p.xid AND (e.xid, e.at, e.id) > (p.xid, p.at, p.id)
    ORDER BY e.xid, e.at, e.id LIMIT 1)) AS at
  FROM (SELECT 0::bigint) nothing LEFT JOIN LATERAL (SELECT last_xid, last_at, last_id FROM audit_batches
    WHERE trail = '${trail}' ORDER BY last_xid DESC, last_at DESC, last_id DESC LIMIT 1) b ON true
  CROSS JOIN LATERAL (SELECT coalesce(b.last_xid, 0) AS xid, coalesce(b.last_at, '-infinity') AS at,
    coalesce(b.last_id, '00000000-0000-0000-0000-000000000000') AS id) p`;
