import type { Knex } from 'knex';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import type { Limit } from '../../config/policy.ts';
import { addPoints, createSharedCounters, type SharedCountersDeps } from './shared-counters.ts';

export interface RateLimiter {
  /** Counts one. @returns the seconds until there is room again, where there is none */
  consume(key: string): Promise<number | undefined>;
  /** Takes one back. */
  giveBack(key: string): Promise<void>;
  reset(key: string): Promise<void>;
}

export type RateLimits = ReturnType<typeof createRateLimits>;

const tableName = 'rate_limits';

/** Counters that all instances share. Where the table cannot be reached, each instance counts for itself. */
export function createRateLimits(knex: Knex) {
  return {
    /** A query for each that is counted. @param onError told where it is not shared */
    limiter(name: string, { points, window }: Limit, onError: (error: unknown) => void): RateLimiter {
      const memory = new RateLimiterMemory({ points, duration: window });
      const keyOf = (key: string) => `${name}:${key}`;
      const seconds = (ms: number) => Math.max(1, Math.ceil(ms / 1000));
      async function consumeHere(key: string): Promise<number | undefined> {
        try {
          await memory.consume(key);
          return undefined;
        } catch (refusal) {
          if (!(refusal instanceof RateLimiterRes)) throw refusal;
          return seconds(refusal.msBeforeNext);
        }
      }
      return {
        async consume(key) {
          try {
            const [counted] = await addPoints(knex, [{ key: keyOf(key), points: 1, left: window * 1000 }]);
            return counted && counted.points > points ? seconds(counted.left) : undefined;
          } catch (error) {
            onError(error);
            return consumeHere(key);
          }
        },
        // Where it cannot be reached, what was counted stays: one attempt less, until the window is over.
        async giveBack(key) {
          await knex(tableName)
            .where({ key: keyOf(key) })
            .decrement('points', 1)
            .catch(() => {});
        },
        async reset(key) {
          await memory.delete(key);
          await knex(tableName)
            .where({ key: keyOf(key) })
            .delete()
            .catch(() => {});
        },
      };
    },

    /** For what is counted at every request, or refused in a flood. */
    shared: (deps: Omit<SharedCountersDeps, 'knex'>) => createSharedCounters({ ...deps, knex }),

    async deleteExpired(now: Date): Promise<number> {
      return knex(tableName).where('expire', '<', now.getTime()).delete();
    },
  };
}
