import type { Knex } from 'knex';
import { RateLimiterMemory, RateLimiterPostgres, RateLimiterRes } from 'rate-limiter-flexible';
import { createSharedCounters, type SharedCountersDeps } from './shared-counters.ts';

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
    /** A query for each that is counted. @param window in seconds, from the first that is counted; it does not grow by what comes later */
    limiter(name: string, points: number, window: number): RateLimiter {
      const options = { keyPrefix: name, points, duration: window };
      const limiter = new RateLimiterPostgres({
        ...options,
        storeClient: knex,
        storeType: 'knex',
        tableName,
        // The table is made by a migration, and swept with everything else.
        tableCreated: true,
        clearExpiredByTimeout: false,
        insuranceLimiter: new RateLimiterMemory(options),
      });
      return {
        async consume(key) {
          try {
            await limiter.consume(key);
            return undefined;
          } catch (refusal) {
            if (!(refusal instanceof RateLimiterRes)) throw refusal;
            return Math.max(1, Math.ceil(refusal.msBeforeNext / 1000));
          }
        },
        giveBack: async (key) => void (await limiter.reward(key)),
        reset: async (key) => void (await limiter.delete(key)),
      };
    },

    /** For what is counted at every request, or refused in a flood. */
    shared: (deps: Omit<SharedCountersDeps, 'knex'>) => createSharedCounters({ ...deps, knex }),

    async deleteExpired(now: Date): Promise<number> {
      return knex(tableName).where('expire', '<', now.getTime()).delete();
    },
  };
}
