import { policy } from '../../config/policy.ts';
import type { AuditEvent, AuditEvents } from './audit-events.ts';
import { isRefusedData } from './database.ts';

/**
 * Events of what anybody can make happen as often as they like: one for all that are alike in a minute, with their number. It
 * has the details of the first, and the time of the last.
 */
export interface CountedEvents {
  /** @param like whatever is equal in it counts as one */
  record(like: string, at: Date, event: () => Omit<AuditEvent, 'at'>): void;
  /** Events that are not yet recorded, and those that will never be recorded. */
  state(): { readonly waiting: number; readonly dropped: number };
  /** Writes what waits, and stops. */
  close(): Promise<void>;
}

export interface CountedEventsDeps {
  readonly auditEvents: Pick<AuditEvents, 'insert'>;
  /** Told of writes that failed (they are tried again a minute later) and of events that were dropped. */
  readonly onError: (error: unknown, waiting: number, dropped: number) => void;
  readonly minuteMs?: number;
}

interface Counted {
  readonly event: Omit<AuditEvent, 'at'>;
  at: Date;
  count: number;
}

/** A crash loses the last minute. */
export function createCountedEvents({
  auditEvents,
  onError,
  minuteMs = policy.exchangeMinuteMs,
}: CountedEventsDeps): CountedEvents {
  let counted = new Map<string, Counted>();
  let waiting: AuditEvent[] = [];
  let dropped = 0;
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> | undefined;

  async function write(): Promise<void> {
    const ended = [...counted.values()].map(({ event, at, count }) => ({ ...event, at, count }));
    counted = new Map();
    const events = waiting.concat(ended);
    waiting = [];
    if (events.length === 0) return;
    try {
      await auditEvents.insert(events);
    } catch (error) {
      if (isRefusedData(error)) await writeSingly(events);
      else keep(events, error);
    }
  }

  /** One that PostgreSQL refuses must not take the others along, now or at the next try. */
  async function writeSingly(events: readonly AuditEvent[]): Promise<void> {
    for (const [index, event] of events.entries()) {
      try {
        await auditEvents.insert([event]);
      } catch (error) {
        if (!isRefusedData(error)) return keep(events.slice(index), error);
        dropped += 1;
        onError(error, waiting.length, dropped);
      }
    }
  }

  function keep(events: readonly AuditEvent[], error: unknown): void {
    waiting = events.slice(-2 * policy.countedEvents);
    dropped += events.length - waiting.length;
    onError(error, waiting.length, dropped);
    schedule();
  }

  function schedule(): void {
    timer ??= setTimeout(() => {
      timer = undefined;
      writing = write();
    }, minuteMs).unref();
  }

  return {
    record(like, at, event) {
      schedule();
      const one = counted.get(like);
      if (one) return count(one, at);
      if (counted.size < policy.countedEvents) {
        counted.set(like, { event: event(), at, count: 1 });
        return;
      }
      const made = event();
      const rest = counted.get(made.action);
      if (rest) count(rest, at);
      else counted.set(made.action, { event: anonymous(made), at, count: 1 });
    },
    state: () => ({ waiting: waiting.length + counted.size, dropped }),
    async close() {
      clearTimeout(timer);
      await writing;
      await write();
      clearTimeout(timer);
    },
  };
}

function count(one: Counted, at: Date): void {
  one.count += 1;
  one.at = at;
}

/** Where there are too many that differ: of the others only how many. */
const anonymous = (event: Omit<AuditEvent, 'at'>): Omit<AuditEvent, 'at'> => ({
  ...event,
  actor: { type: 'system', id: 'others' },
  organizationId: null,
  tokenId: null,
  targetId: null,
  ip: null,
  userAgent: null,
  requestId: null,
  reason: null,
});
