import { v7 as uuidv7 } from 'uuid';
import type { AuditEvent } from '../../server/storage/audit-events.ts';
import type { Database, Executor } from '../../server/storage/database.ts';
import type { Stores } from '../../server/storage/stores.ts';

/** Events of both tables, as the server writes them. */
export function eventWriters({ auditEvents, exchangeEvents }: Stores) {
  const none = {
    organizationId: uuidv7(),
    ip: '192.0.2.1',
    userAgent: 'te"st\u007f ü\\',
    requestId: uuidv7(),
  };
  return {
    audit: (times: readonly Date[], executor?: Executor): Promise<void> =>
      auditEvents.insert(
        times.map(
          (at): AuditEvent => ({
            ...none,
            id: uuidv7({ msecs: at.getTime() }),
            at,
            action: 'test.done',
            actor: { type: 'system', id: 'test' },
            tokenId: null,
            targetId: 'a\tb',
            reason: null,
          }),
        ),
        executor,
      ),
    exchange: (times: readonly Date[]): Promise<void> =>
      exchangeEvents.insert(
        times.map((at) => ({
          ...none,
          id: uuidv7({ msecs: at.getTime() }),
          at,
          tokenId: uuidv7(),
          serviceId: 'tms',
          count: 3,
        })),
      ),
  };
}

/**
 * Seals all events that are written. A transaction that is open holds up the sealing of what comes after it, in another database
 * of the same server too: tests run beside each other.
 */
export async function sealWritten({ knex }: Database, { auditTrail }: Stores, most?: number) {
  const written = `SELECT greatest((SELECT max(xid) FROM audit_events), (SELECT max(xid) FROM exchange_events))
    >= audit_xid(pg_snapshot_xmin(pg_current_snapshot())) AS open`;
  while ((await knex.raw(written)).rows[0].open) await new Promise((resolve) => setTimeout(resolve, 20));
  return auditTrail.seal(most);
}

/** The first moment of the month so many months from now, UTC. */
export function month(from: number): Date {
  const now = new Date();
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + from, 1));
}
/** As partitions are named. */
export const monthName = (from: number) => month(from).toISOString().slice(0, 7).replace('-', '_');
