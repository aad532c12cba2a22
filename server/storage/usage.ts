import { randomBytes } from 'node:crypto';
import type { Knex } from 'knex';
import { v7 as uuidv7 } from 'uuid';
import { policy } from '../../config/policy.ts';
import { isRefusedData } from './database.ts';
import type { ExchangeEvent, ExchangeEvents } from './exchange-events.ts';

/** One exchange, as it is recorded. */
export type UsageEvent = Omit<ExchangeEvent, 'id' | 'count'>;

export interface UsageDeps {
  readonly knex: Knex;
  readonly exchangeEvents: Pick<ExchangeEvents, 'insert'>;
  /** Told of writes that failed (they are tried again) and of exchanges that were dropped. */
  readonly onError: (error: unknown, waiting: number, dropped: number) => void;
  readonly minuteMs?: number;
}

/**
 * Exchanges, written behind the answers: events and the tokens' last use leave in one batch every half second. Of the
 * exchanges of one token from one address and user agent in a minute, all after the first few are counted here and make
 * one event when the minute is over. A crash loses at most what has not left yet; a lost database delays it, up to a
 * bound.
 */
export interface UsageRecorder {
  record(event: UsageEvent): void;
  /** Writes what waits, and stops. */
  close(): Promise<void>;
}

/** What waits to be written. */
interface Entry {
  readonly event: UsageEvent;
  readonly count: number;
  /** Made at the first try, and the same in each that follows; empty before. */
  id: string;
}

/** A token's exchanges from one address and user agent, in the minute that began with the token's first exchange. */
interface Source {
  /** Of the last one only what differs: whole events would live long enough to burden the collection of garbage. */
  readonly first: UsageEvent;
  lastAt: Date;
  lastRequestId: string | null;
  /** With an event each. */
  single: number;
  /** After them, without. */
  counted: number;
}

/** Most tokens are used from one place at a time: others cost a map of their own. */
interface Minute extends Source {
  readonly ends: number;
  others: Map<string, Source> | undefined;
}

export function createUsageRecorder({
  knex,
  exchangeEvents,
  onError,
  minuteMs = policy.exchangeMinuteMs,
}: UsageDeps): UsageRecorder {
  let waiting: Entry[] = [];
  /** By token, in the order in which they began. */
  const minutes = new Map<string, Minute>();
  let sources = 0;
  let writing: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let dropped = 0;

  /** A minute ends at the next tick after its end: looked up here, the clock need not be asked. */
  function sourceOf(event: UsageEvent): Source | undefined {
    const minute = minutes.get(event.tokenId);
    if (minute === undefined || isSameSource(minute.first, event)) return minute;
    return minute.others?.get(keyOf(event));
  }

  function begin(event: UsageEvent): void {
    if (sources >= policy.exchangeSources) {
      endMinutes(Number.POSITIVE_INFINITY);
      start();
    }
    sources += 1;
    const minute = minutes.get(event.tokenId);
    if (minute === undefined) {
      const ends = performance.now() + minuteMs;
      minutes.set(event.tokenId, { ...sourceFrom(event), ends, others: undefined });
      return;
    }
    minute.others ??= new Map();
    minute.others.set(keyOf(event), sourceFrom(event));
  }

  function endMinutes(now: number): void {
    for (const [tokenId, minute] of minutes) {
      if (minute.ends > now) return;
      minutes.delete(tokenId);
      end(minute);
      for (const source of minute.others?.values() ?? []) end(source);
    }
  }

  function end({ first, lastAt: at, lastRequestId: requestId, counted }: Source): void {
    sources -= 1;
    if (counted > 0) waiting.push({ event: { ...first, at, requestId }, count: counted, id: '' });
  }

  async function write(batch: readonly Entry[]): Promise<void> {
    const random = randomBytes(16 * batch.length);
    const lastUses = new Map<string, UsageEvent>();
    const events = batch.map((entry, index) => {
      const { event, count } = entry;
      const { at, tokenId } = event;
      entry.id ||= uuidv7({
        msecs: at.getTime(),
        random: random.subarray(16 * index, 16 * index + 16),
      });
      const lastUse = lastUses.get(tokenId);
      if (lastUse === undefined || lastUse.at <= at) lastUses.set(tokenId, event);
      return { ...event, id: entry.id, count };
    });
    // Sorted, so that two instances that write the same tokens lock them in the same order.
    const used = [...lastUses.values()].sort((a, b) => (a.tokenId < b.tokenId ? -1 : 1));
    await knex.transaction(async (transaction) => {
      await exchangeEvents.insert(events, transaction);
      await transaction.raw(
        `UPDATE platform_tokens t SET last_used_at = u.at, last_used_ip = u.ip
         FROM (SELECT t.id, n.at, n.ip FROM unnest(?::uuid[], ?::timestamptz[], ?::inet[]) AS n (id, at, ip)
               JOIN platform_tokens t ON t.id = n.id ORDER BY t.id FOR NO KEY UPDATE OF t) u
         WHERE t.id = u.id AND (t.last_used_at IS NULL OR t.last_used_at < u.at)`,
        [
          used.map(({ tokenId }) => tokenId),
          used.map(({ at }) => at.toISOString()),
          used.map(({ ip }) => ip as string),
        ],
      );
    });
  }

  async function flush(): Promise<void> {
    const taken = waiting;
    waiting = [];
    for (let from = 0; from < taken.length; from += policy.usageBatchMaximum) {
      const batch = taken.slice(from, from + policy.usageBatchMaximum);
      try {
        await write(batch);
      } catch (error) {
        const rest = isRefusedData(error) ? await writeSingly(batch) : { entries: batch, error };
        if (rest) return keep(rest.entries.concat(taken.slice(from + batch.length)), rest.error);
      }
    }
  }

  /**
   * One event that PostgreSQL refuses must not take the others of its batch along, now or at the next try.
   * @returns what is left where the database is lost
   */
  async function writeSingly(
    batch: readonly Entry[],
  ): Promise<{ entries: Entry[]; error: unknown } | undefined> {
    for (const [index, entry] of batch.entries()) {
      try {
        await write([entry]);
      } catch (error) {
        if (!isRefusedData(error)) return { entries: batch.slice(index), error };
        dropped += entry.count;
        onError(error, waiting.length, dropped);
      }
    }
    return undefined;
  }

  function keep(entries: readonly Entry[], error: unknown): void {
    const all = entries.concat(waiting);
    waiting = all.slice(-policy.usageBufferLimit);
    for (const { count } of all.slice(0, all.length - waiting.length)) dropped += count;
    onError(error, waiting.length, dropped);
  }

  /** One write at a time; what failed waits for the timer with the rest. */
  function start(): void {
    writing ??= flush().finally(() => {
      writing = undefined;
      if (waiting.length > 0) schedule();
    });
  }

  function tick(): void {
    timer = undefined;
    endMinutes(performance.now());
    start();
    if (minutes.size > 0) schedule();
  }

  function schedule(): void {
    timer ??= setTimeout(tick, policy.usageFlushIntervalMs).unref();
  }

  return {
    record(event) {
      const source = sourceOf(event);
      if (source !== undefined) {
        if (source.single >= policy.exchangeEventsAMinute) {
          source.counted += 1;
          source.lastAt = event.at;
          source.lastRequestId = event.requestId;
          return;
        }
        source.single += 1;
      } else {
        begin(event);
      }
      waiting.push({ event, count: 1, id: '' });
      // Many at once leave early: small batches hold up nothing, and what lives briefly costs little memory.
      if (waiting.length === policy.usageBatchSize) start();
      else schedule();
    },
    async close() {
      await writing;
      clearTimeout(timer);
      endMinutes(Number.POSITIVE_INFINITY);
      await flush();
    },
  };
}

const sourceFrom = (event: UsageEvent): Source => ({
  first: event,
  lastAt: event.at,
  lastRequestId: event.requestId,
  single: 1,
  counted: 0,
});
const isSameSource = (a: UsageEvent, b: UsageEvent): boolean => a.ip === b.ip && a.userAgent === b.userAgent;
const keyOf = ({ ip, userAgent }: UsageEvent): string => `${ip} ${userAgent}`;
