import type pg from 'pg';
import { DatabaseUnavailableError, isConnectionLost } from './failures.ts';

/** Connections for statements that only read, each by itself. */
export interface LookupPool {
  // As the driver types it.
  // biome-ignore lint/suspicious/noExplicitAny: a statement says nothing about its rows
  query<Row extends pg.QueryResultRow = any>(
    statement: string | pg.QueryConfig<unknown[]>,
    values?: unknown[],
  ): Promise<pg.QueryResult<Row>>;
  /** Connections at most, that are there, that do nothing, and queries that wait for one. */
  readonly maximum: number;
  readonly totalCount: number;
  readonly idleCount: number;
  readonly waitingCount: number;
}

export interface LookupPoolOptions {
  readonly open: () => pg.Pool;
  /** Queries that wait for a connection. */
  readonly maximumWaiting: number;
  /** @throws where no query can be answered now */
  readonly refuse: () => void;
  readonly onFailure: (error: unknown) => void;
}

const endCheckMs = 50;

/** What reads may be asked again: a connection that broke under a query costs a second one, and no answer. */
export function createLookupPool({ open, maximumWaiting, refuse, onFailure }: LookupPoolOptions) {
  const start = () => {
    const fresh = open();
    // An idle connection that breaks is replaced at its next use; without a listener it would end the process.
    fresh.on('error', () => {});
    return fresh;
  };
  let pool = start();
  return {
    async query<Row extends pg.QueryResultRow>(
      statement: string | pg.QueryConfig<unknown[]>,
      values?: unknown[],
    ): Promise<pg.QueryResult<Row>> {
      refuse();
      if (pool.waitingCount >= maximumWaiting)
        throw new DatabaseUnavailableError('too many look-ups wait for a connection');
      try {
        return await pool.query<Row>(statement as string, values);
      } catch (error) {
        onFailure(error);
        if (!isConnectionLost(error)) throw error;
        return pool.query<Row>(statement as string, values);
      }
    },
    get maximum() {
      return pool.options.max;
    },
    get totalCount() {
      return pool.totalCount;
    },
    get idleCount() {
      return pool.idleCount;
    },
    get waitingCount() {
      return pool.waitingCount;
    },
    /** Takes new connections from now on; those that are at work end with it. */
    renew(): void {
      const former = pool;
      pool = start();
      // The driver's pool forgets whoever waits once it ends.
      const end = () => {
        if (former.waitingCount > 0) setTimeout(end, endCheckMs).unref();
        else former.end().catch(() => {});
      };
      end();
    },
    end: () => pool.end(),
  };
}
