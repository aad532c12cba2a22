import type { Knex } from 'knex';
import { policy } from '../../config/policy.ts';
import type { AuditEvent, AuditEvents } from './audit-events.ts';

export interface UsageDeps {
  readonly knex: Knex;
  readonly auditEvents: AuditEvents;
  /** Told of writes that failed (they are tried again) and of events that were dropped. */
  readonly onError: (error: unknown, waiting: number, dropped: number) => void;
}

/**
 * Exchanges, written behind the answers: the audit event and the token's last use leave in one batch every half
 * second. A crash loses at most what has not left yet; a lost database delays it, up to a bound.
 */
export interface UsageRecorder {
  /** @param event a `token.exchanged` event with a `tokenId` */
  record(event: AuditEvent): void;
  /** Writes what waits, and stops. */
  close(): Promise<void>;
}

export function createUsageRecorder({ knex, auditEvents, onError }: UsageDeps): UsageRecorder {
  let waiting: AuditEvent[] = [];
  let flushing: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  let dropped = 0;

  async function write(batch: readonly AuditEvent[]): Promise<void> {
    const last = new Map(batch.map((event) => [event.tokenId, event]));
    // Sorted, so that two instances that write the same tokens lock them in the same order.
    const used = [...last.values()].sort((a, b) => (String(a.tokenId) < String(b.tokenId) ? -1 : 1));
    await knex.transaction(async (transaction) => {
      await auditEvents.insert(batch, transaction);
      await transaction.raw(
        `UPDATE platform_tokens t SET last_used_at = u.at, last_used_ip = u.ip
         FROM (SELECT t.id, n.at, n.ip FROM unnest(?::uuid[], ?::timestamptz[], ?::inet[]) AS n (id, at, ip)
               JOIN platform_tokens t ON t.id = n.id ORDER BY t.id FOR NO KEY UPDATE OF t) u
         WHERE t.id = u.id AND (t.last_used_at IS NULL OR t.last_used_at < u.at)`,
        [
          used.map((event) => event.tokenId as string),
          used.map((event) => event.at.toISOString()),
          used.map((event) => event.ip as string),
        ],
      );
    });
  }

  async function flush(): Promise<void> {
    const batch = waiting;
    if (batch.length === 0) return;
    waiting = [];
    try {
      await write(batch);
    } catch (error) {
      const all = batch.concat(waiting);
      waiting = all.slice(-policy.usageBufferLimit);
      dropped += all.length - waiting.length;
      onError(error, waiting.length, dropped);
    }
  }

  function schedule(): void {
    timer ??= setTimeout(() => {
      timer = undefined;
      flushing = flushing.then(flush).then(() => {
        if (waiting.length > 0) schedule();
      });
    }, policy.usageFlushIntervalMs).unref();
  }

  return {
    record(event) {
      waiting.push(event);
      schedule();
    },
    async close() {
      clearTimeout(timer);
      await flushing;
      await flush();
    },
  };
}
