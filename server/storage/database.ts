import knex, { type Knex } from 'knex';
import pg from 'pg';
import { policy } from '../../config/policy.ts';
import knexfile from '../../knexfile.ts';
import { boundedClient } from './bounded-client.ts';
import { classOf, type DatabaseErrorClass, isReadOnly, isStranded } from './failures.ts';
import { createKnexBounds } from './knex-bounds.ts';
import { createLookupPool, type LookupPool } from './lookup-pool.ts';
import { watchSilence } from './silence.ts';
import { createTransactions, type Transact } from './transactions.ts';

export {
  classOf,
  type DatabaseErrorClass,
  isDatabaseFault,
  isDatabaseUnavailable,
  isRefusedData,
  violatedConstraint,
} from './failures.ts';
export type { Transact } from './transactions.ts';

export type Executor = Knex | Knex.Transaction;

export interface Database {
  /** For everything but the exchange's look-up. */
  readonly knex: Knex;
  /** For the exchange's look-up: its own connections, so that no slow list or bulk write stands before it. */
  readonly lookups: LookupPool;
  /** Transactions: all but those of a sweep begin here. */
  readonly transact: Transact;
  readonly watch: DatabaseWatch;
  pools(): PoolState[];
  /** What keeps the database from serving, in words for an operator; empty where it serves. */
  faults(): Promise<string[]>;
  close(): Promise<void>;
}

/** Who is told of queries; it must return at once, and never throw. */
export interface DatabaseWatch {
  /** One look-up of so many tokens begins. */
  lookedUp(keys: number): void;
  failed(kind: DatabaseErrorClass): void;
}

export interface PoolState {
  readonly name: string;
  readonly size: number;
  readonly inUse: number;
  readonly idle: number;
  /** Who waits for a connection. */
  readonly waiting: number;
}

export interface PoolSizes {
  readonly poolSize?: number;
  readonly lookupPoolSize?: number;
}

export interface DatabaseOptions extends PoolSizes {
  readonly connectionString: string;
  /** Whether statements end after a time, as those of a request must; migrations may take as long as they need. */
  readonly limited?: boolean;
  readonly watch?: DatabaseWatch;
  /** Told of transactions whose end stayed unknown. */
  readonly onError?: (error: unknown) => void;
}

/** Connections at most. Several workers share what one has, down to a few for each; see docs/operating.md. */
export const poolSizes = (workers: number): Required<PoolSizes> => ({
  poolSize: Math.max(3, Math.ceil(10 / workers)),
  lookupPoolSize: Math.max(2, Math.ceil(5 / workers)),
});

const acquireTimeout = 3_000;
const statementTimeout = 5_000;
// Where PostgreSQL itself does not answer any more, its own timeout never comes. With the wait for a connection before
// it, a request has its 503 within ten seconds.
const queryTimeout = 6_000;

/** Opens no connection by itself: the first query does. */
export function createDatabase({
  connectionString,
  poolSize = poolSizes(1).poolSize,
  lookupPoolSize = poolSizes(1).lookupPoolSize,
  limited = true,
  watch = { lookedUp() {}, failed() {} },
  onError,
}: DatabaseOptions): Database {
  const connection = {
    connectionString,
    application_name: 'platform-tokens',
    connectionTimeoutMillis: acquireTimeout,
    keepAlive: true,
    ...(limited ? { statement_timeout: statementTimeout, query_timeout: queryTimeout } : {}),
  };
  let renewedAt = Number.NEGATIVE_INFINITY;
  /** Where the address of the database leads elsewhere by now, connections that are open do not: they are made anew. */
  function renew(): void {
    if (performance.now() - renewedAt < policy.connectionRenewalPauseMs) return;
    renewedAt = performance.now();
    bounds.renew();
    lookups.renew();
  }
  const silence = watchSilence({
    ask: () => askOnce(connection),
    onSilent: renew,
    pauseMs: policy.databaseProbePauseMs,
  });
  const onFailure = (error: unknown) => {
    silence.suspect(error);
    // Others that were made with it lead where it leads: each would cost somebody its timeout, and those who try again a second one.
    if (isReadOnly(error) || isStranded(error)) renew();
  };
  const bounds = createKnexBounds({
    maximumWaiting: policy.waitingQueries,
    refuse: silence.refuse,
    onFailure,
  });
  const queries = knex({
    ...knexfile,
    connection,
    acquireConnectionTimeout: acquireTimeout,
    // What fails is thrown, and logged by whoever catches it; Knex would print it beside the structured log.
    log: { warn() {}, error() {}, deprecate() {}, debug() {} },
    compileSqlOnError: false,
    pool: { min: 0, max: poolSize, ...bounds.pool },
  });
  bounds.bind(queries);
  queries.on('query-error', (error: Error, query: { sql: string }) => {
    withoutStatement(error, query);
    watch.failed(classOf(error));
  });
  const lookupClient = boundedClient(acquireTimeout);
  const lookups = createLookupPool({
    // Its client bounds its queries, in place of the driver.
    open: () => new pg.Pool({ ...connection, max: lookupPoolSize, query_timeout: 0, Client: lookupClient }),
    maximumWaiting: policy.waitingQueries,
    refuse: silence.refuse,
    onFailure,
  });
  const transactions = createTransactions({ knex: queries, onError });
  return {
    knex: queries,
    lookups,
    transact: transactions.transact,
    watch,
    pools() {
      const { pool } = queries.client as { pool: Pool | undefined };
      return [
        {
          name: 'queries',
          size: poolSize,
          inUse: pool?.numUsed() ?? 0,
          idle: pool?.numFree() ?? 0,
          waiting: pool?.numPendingAcquires() ?? 0,
        },
        {
          name: 'lookups',
          size: lookups.maximum,
          inUse: lookups.totalCount - lookups.idleCount,
          idle: lookups.idleCount,
          waiting: lookups.waitingCount,
        },
      ];
    },
    async faults() {
      try {
        await lookups.query('SELECT 1');
        return [];
      } catch {
        return ['database'];
      }
    },
    async close() {
      silence.close();
      transactions.close();
      await Promise.all([queries.destroy(), lookups.end()]);
    },
  };
}

/** On a connection of its own, whatever the pools hold. */
async function askOnce(connection: pg.ClientConfig): Promise<void> {
  const limit = policy.databaseProbeTimeoutMs;
  const client = new pg.Client({ ...connection, connectionTimeoutMillis: limit, query_timeout: limit });
  // Told by what is awaited; without a listener it would end the process.
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query('SELECT 1');
  } finally {
    client.end().catch(() => {});
  }
}

/** What this file reads of Knex's own pool (tarn). */
interface Pool {
  numUsed(): number;
  numFree(): number;
  numPendingAcquires(): number;
}

export interface NamedStatement {
  readonly name: string;
  readonly text: string;
}

const withoutNames = new WeakSet<LookupPool>();

/**
 * By a prepared statement: PostgreSQL parses and plans it once a connection. A pooler that gives every transaction another
 * connection and knows nothing of them (PgBouncer before 1.21, or with `max_prepared_statements = 0`) breaks that. Then
 * the pool does without.
 */
export async function queryNamed<Row extends pg.QueryResultRow>(
  pool: LookupPool,
  { name, text }: NamedStatement,
  values: unknown[],
): Promise<Row[]> {
  if (!withoutNames.has(pool)) {
    try {
      return (await pool.query<Row>({ name, text, values })).rows;
    } catch (error) {
      const { code } = error as { code?: unknown };
      // invalid_sql_statement_name, duplicate_prepared_statement: nothing was executed.
      if (code !== '26000' && code !== '42P05') throw error;
      withoutNames.add(pool);
    }
  }
  return (await pool.query<Row>({ text, values })).rows;
}

/** Knex puts the statement before PostgreSQL's own message, and messages are logged. */
function withoutStatement(error: Error, { sql }: { sql: string }): void {
  const prefix = `${sql} - `;
  if (error.message.startsWith(prefix)) error.message = error.message.slice(prefix.length);
}

/** The database of DATABASE_URL cannot be used; the message says why, never the URL, which holds a password. */
export class DatabaseUnusableError extends Error {}

/**
 * Connects once: whatever goes wrong in a query that touches nothing is for the operator to mend.
 * @throws DatabaseUnusableError
 */
export async function verifyUsable({ knex }: Database): Promise<void> {
  try {
    await knex.raw('SELECT 1');
  } catch (cause) {
    // Where a host has several addresses, the error that sums them up has a code and no message.
    const { message, code } = cause as { message?: string; code?: string };
    throw new DatabaseUnusableError(`the database of DATABASE_URL cannot be used: ${message || code}`, {
      cause,
    });
  }
}
