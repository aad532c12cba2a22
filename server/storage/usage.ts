import { randomBytes } from 'node:crypto';
import type { Knex } from 'knex';
import { v7 as uuidv7 } from 'uuid';
import { policy } from '../../config/policy.ts';
import type { AuditEvent, AuditEvents } from './audit-events.ts';
import { isRefusedData } from './database.ts';

export type UsageEvent = Omit<AuditEvent, 'id'>;

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
  /** @param event a `token.exchanged` event with a `tokenId`; it gets its id when it is written */
  record(event: UsageEvent): void;
  /** Writes what waits, and stops. */
  close(): Promise<void>;
}

export function createUsageRecorder({ knex, auditEvents, onError }: UsageDeps): UsageRecorder {
  let waiting: UsageEvent[] = [];
  let writing: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let dropped = 0;

  async function write(batch: readonly UsageEvent[]): Promise<void> {
    const last = new Map(batch.map((event) => [event.tokenId, event]));
    // Sorted, so that two instances that write the same tokens lock them in the same order.
    const used = [...last.values()].sort((a, b) => (String(a.tokenId) < String(b.tokenId) ? -1 : 1));
    const random = randomBytes(16 * batch.length);
    const events = batch.map((event, index) => ({
      ...event,
      id: uuidv7({ msecs: event.at.getTime(), random: random.subarray(16 * index, 16 * index + 16) }),
    }));
    await knex.transaction(async (transaction) => {
      await auditEvents.insert(events, transaction);
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
      if (isRefusedData(error) && batch.length > 1) await writeSingly(batch);
      else if (isRefusedData(error)) drop(error);
      else keep(batch, error);
    }
  }

  /** One event that PostgreSQL refuses must not take the others of its batch along, now or at the next try. */
  async function writeSingly(batch: readonly UsageEvent[]): Promise<void> {
    for (const [index, event] of batch.entries()) {
      try {
        await write([event]);
      } catch (error) {
        if (!isRefusedData(error)) return keep(batch.slice(index), error);
        drop(error);
      }
    }
  }

  function drop(error: unknown): void {
    dropped += 1;
    onError(error, waiting.length, dropped);
  }

  function keep(batch: readonly UsageEvent[], error: unknown): void {
    const all = batch.concat(waiting);
    waiting = all.slice(-policy.usageBufferLimit);
    dropped += all.length - waiting.length;
    onError(error, waiting.length, dropped);
  }

  /** One batch at a time; what failed waits for the timer with the rest. */
  function start(): void {
    clearTimeout(timer);
    timer = undefined;
    writing ??= flush().finally(() => {
      writing = undefined;
      if (waiting.length > 0) schedule();
    });
  }

  function schedule(): void {
    timer ??= setTimeout(start, policy.usageFlushIntervalMs).unref();
  }

  return {
    record(event) {
      waiting.push(event);
      // Many at once leave early: small batches hold up nothing, and what lives briefly costs little memory.
      if (waiting.length === policy.usageBatchSize) start();
      else schedule();
    },
    async close() {
      await writing;
      clearTimeout(timer);
      await flush();
    },
  };
}
