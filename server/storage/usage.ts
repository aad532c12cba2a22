import { randomBytes } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { policy } from '../../config/policy.ts';
import { isRefusedData } from './database.ts';
import type { ExchangeEvent, ExchangeEvents } from './exchange-events.ts';

/** One exchange, as it is recorded. */
export type UsageEvent = Omit<ExchangeEvent, 'id' | 'count'>;

/** Of a token's id, at its random end: 16⁵ places of a byte each. */
const placeDigits = 5;

export interface UsageDeps {
  readonly exchangeEvents: Pick<ExchangeEvents, 'insert'>;
  /** Told of writes that failed (they are tried again) and of exchanges that were dropped. */
  readonly onError: (error: unknown, waiting: number, dropped: number) => void;
  readonly minuteMs?: number;
}

/**
 * Exchanges, written behind the answers: events and the tokens' last use leave in one batch every half second. Of a
 * token's exchanges in a minute the first few have an event each, and so has the next one from each address and user
 * agent; the rest of those is counted here and makes one event when the minute is over. A crash loses at most what has
 * not left yet; a lost database delays it, up to a bound.
 */
export interface UsageRecorder {
  record(event: UsageEvent): void;
  /** Entries that wait to be written, and exchanges that never will be, since the start. */
  state(): { readonly waiting: number; readonly dropped: number };
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

/** The exchanges of one token from one address and user agent that are counted in this minute. */
interface Source {
  /** Of the last one only what differs: whole events would live long enough to burden the collection of garbage. */
  readonly first: UsageEvent;
  lastAt: Date;
  lastRequestId: string | null;
  counted: number;
}

export function createUsageRecorder({
  exchangeEvents,
  onError,
  minuteMs = policy.exchangeMinuteMs,
}: UsageDeps): UsageRecorder {
  let waiting: Entry[] = [];
  /**
   * How many single events each token has had in this minute, by the end of its id: most tokens are used once in a while,
   * and cost no more than this. Tokens that share a place are counted a little earlier, and as exactly.
   */
  const singles = new Uint8Array(2 ** (4 * placeDigits));
  const sources = new Map<string, Source>();
  let minuteEnds: number | undefined;
  let writing: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let dropped = 0;

  /** @returns whether the event is part of a later one, which counts it */
  function isCounted(event: UsageEvent): boolean {
    const place = Number.parseInt(event.tokenId.slice(-placeDigits), 16);
    const before = singles[place] as number;
    if (before < policy.exchangeEventsAMinute) {
      singles[place] = before + 1;
      return false;
    }
    const key = `${event.tokenId} ${event.ip} ${event.userAgent}`;
    const source = sources.get(key);
    if (source !== undefined) {
      source.counted += 1;
      source.lastAt = event.at;
      source.lastRequestId = event.requestId;
    } else if (sources.size < policy.exchangeSources) {
      sources.set(key, { first: event, lastAt: event.at, lastRequestId: event.requestId, counted: 0 });
    }
    return source !== undefined;
  }

  function endMinute(): void {
    minuteEnds = undefined;
    for (const { first, lastAt: at, lastRequestId: requestId, counted } of sources.values()) {
      if (counted > 0) waiting.push({ event: { ...first, at, requestId }, count: counted, id: '' });
    }
    sources.clear();
    singles.fill(0);
  }

  async function write(batch: readonly Entry[]): Promise<void> {
    const random = randomBytes(16 * batch.length);
    const events = batch.map((entry, index) => {
      const { event, count } = entry;
      entry.id ||= uuidv7({
        msecs: event.at.getTime(),
        random: random.subarray(16 * index, 16 * index + 16),
      });
      return { ...event, id: entry.id, count };
    });
    await exchangeEvents.insert(events);
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
    if (minuteEnds !== undefined && performance.now() >= minuteEnds) endMinute();
    start();
    if (minuteEnds !== undefined) schedule();
  }

  function schedule(): void {
    timer ??= setTimeout(tick, policy.usageFlushIntervalMs).unref();
  }

  return {
    record(event) {
      minuteEnds ??= performance.now() + minuteMs;
      if (isCounted(event)) return;
      waiting.push({ event, count: 1, id: '' });
      // Many at once leave early: small batches hold up nothing, and what lives briefly costs little memory.
      if (waiting.length === policy.usageBatchSize) start();
      else schedule();
    },
    state: () => ({ waiting: waiting.length, dropped }),
    async close() {
      await writing;
      clearTimeout(timer);
      endMinute();
      await flush();
    },
  };
}
