import type { Knex } from 'knex';
import { type Limit, policy } from '../../config/policy.ts';

export interface SharedCounter {
  /** Counts one more. @returns how many there are in this window, as far as this process knows */
  add(key: string): number;
  /** How many there are. */
  used(key: string): number;
  /** Whole seconds until the window of this key is over, from 1. */
  wait(key: string): number;
}

export interface SharedCountersDeps {
  readonly knex: Knex;
  /** Monotonic, in ms. */
  readonly now: () => number;
  readonly onError: (error: unknown) => void;
}

export type SharedCounters = ReturnType<typeof createSharedCounters>;

interface Entry {
  /** Of all processes, as of the last time that it was read. */
  total: number;
  /** Counted here and not written yet. */
  own: number;
  /** End of the window by this process's clock, in ms. */
  end: number;
}

export interface Counted {
  readonly key: string;
  readonly points: number;
  /** Of its window, in ms; where nothing was there it is the one that begins. */
  readonly left: number;
}

// By PostgreSQL's clock alone: those of the instances may differ. Locked in one order, so two instances never deadlock.
const addStatement = `
  INSERT INTO rate_limits AS r (key, points, expire)
  SELECT n.key, n.points, n.duration + (extract(epoch FROM statement_timestamp()) * 1000)::bigint
    FROM unnest(?::text[], ?::int[], ?::bigint[]) AS n (key, points, duration) ORDER BY n.key
  ON CONFLICT (key) DO UPDATE SET
    points = CASE WHEN r.expire > (extract(epoch FROM statement_timestamp()) * 1000)::bigint
      THEN r.points + excluded.points ELSE excluded.points END,
    expire = CASE WHEN r.expire > (extract(epoch FROM statement_timestamp()) * 1000)::bigint
      THEN r.expire ELSE excluded.expire END
  RETURNING r.key, r.points, r.expire - (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS left`;

/** Adds to counters that all instances share. @returns them as they are now, in no order */
export async function addPoints(knex: Knex, added: readonly Counted[]): Promise<Counted[]> {
  const columns = [
    added.map(({ key }) => key),
    added.map(({ points }) => points),
    added.map(({ left }) => left),
  ];
  const { rows } = await knex.raw<{ rows: { key: string; points: number; left: string }[] }>(
    addStatement,
    columns,
  );
  return rows.map(({ left, ...row }) => ({ ...row, left: Number(left) }));
}

/**
 * Counters of all instances, of which each counts for itself and at once: what has changed is written, and what the others have
 * counted is read, in one statement a second for all counters together. So a flood costs a query a second, and an
 * instance is at most that behind. Where the table cannot be reached, each goes on by its own count.
 */
export function createSharedCounters({ knex, now, onError }: SharedCountersDeps) {
  const changed = new Map<string, Entry>();
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> | undefined;

  function schedule(): void {
    if (timer || writing || changed.size === 0) return;
    timer = setTimeout(() => {
      timer = undefined;
      void flush();
    }, policy.sharedCounterIntervalMs).unref();
  }

  function flush(): Promise<void> {
    writing ??= write()
      .catch(onError)
      .finally(() => {
        writing = undefined;
        schedule();
      });
    return writing;
  }

  async function write(): Promise<void> {
    const batch = [...changed].slice(0, policy.sharedCounterRows);
    if (batch.length === 0) return;
    const sent = batch.map(([key, { own, end }]) => ({
      key,
      points: own,
      left: Math.max(1, Math.round(end - now())),
    }));
    const present = new Map((await addPoints(knex, sent)).map((row) => [row.key, row]));
    for (const [index, [key, entry]] of batch.entries()) {
      // Unless its window was over meanwhile, and another one has begun.
      if (changed.get(key) === entry) changed.delete(key);
      const row = present.get(key);
      if (!row) continue;
      entry.own -= (sent[index] as Counted).points;
      entry.total = row.points;
      entry.end = now() + row.left;
    }
  }

  return {
    /** @param name of the limit, before the keys in the table */
    counter(name: string, limit: Limit): SharedCounter {
      const { points, window } = limit;
      const entries = new Map<string, Entry>();
      // Who fails now and then is nobody's business: an address is written once it comes to a twentieth of the limit.
      const worthWriting = Math.ceil(points / 20);

      function find(key: string): Entry | undefined {
        const entry = entries.get(key);
        if (!entry || now() < entry.end) return entry;
        entries.delete(key);
        changed.delete(`${name}:${key}`);
        return undefined;
      }

      function begin(key: string): Entry {
        const entry = { total: 0, own: 0, end: now() + window * 1000 };
        if (entries.size >= policy.countedKeys) dropOldest();
        entries.set(key, entry);
        return entry;
      }

      /** A quarter at a time: a Map finds its first entry slowly once many before it are gone. */
      function dropOldest(): void {
        let left = policy.countedKeys / 4;
        for (const key of entries.keys()) {
          if (left-- <= 0) return;
          entries.delete(key);
          changed.delete(`${name}:${key}`);
        }
      }

      return {
        add(key) {
          const entry = find(key) ?? begin(key);
          entry.own += 1;
          if (entry.own >= worthWriting) {
            changed.set(`${name}:${key}`, entry);
            schedule();
          }
          return entry.total + entry.own;
        },
        used(key) {
          if (entries.size === 0) return 0;
          const entry = find(key);
          return entry ? entry.total + entry.own : 0;
        },
        wait: (key) => Math.max(1, Math.ceil(((find(key)?.end ?? 0) - now()) / 1000)),
      };
    },

    /** Writes what waits, in place of the next second. */
    flush,
  };
}
