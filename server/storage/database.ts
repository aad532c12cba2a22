import knex, { type Knex } from 'knex';
import pg from 'pg';
import knexfile from '../../knexfile.ts';

export type Executor = Knex | Knex.Transaction;

export interface Database {
  /** For everything but the exchange's look-up. */
  readonly knex: Knex;
  /** For the exchange's look-up: its own connections, so that no slow list or bulk write stands before it. */
  readonly lookups: pg.Pool;
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
}: DatabaseOptions): Database {
  const connection = {
    connectionString,
    application_name: 'platform-tokens',
    connectionTimeoutMillis: acquireTimeout,
    keepAlive: true,
    ...(limited ? { statement_timeout: statementTimeout, query_timeout: queryTimeout } : {}),
  };
  const queries = knex({
    ...knexfile,
    connection,
    acquireConnectionTimeout: acquireTimeout,
    // What fails is thrown, and logged by whoever catches it; Knex would print it beside the structured log.
    log: { warn() {}, error() {}, deprecate() {}, debug() {} },
    compileSqlOnError: false,
    pool: { min: 0, max: poolSize },
  });
  queries.on('query-error', (error: Error, query: { sql: string }) => {
    withoutStatement(error, query);
    watch.failed(classOf(error));
  });
  const lookups = new pg.Pool({ ...connection, max: lookupPoolSize, query_timeout: acquireTimeout });
  // An idle connection that breaks is replaced at its next use; without a listener it would end the process.
  lookups.on('error', () => {});
  return {
    knex: queries,
    lookups,
    watch,
    pools() {
      const { pool } = queries.client as { pool: Pool | undefined };
      const { max } = lookups.options;
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
          size: max,
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
      await Promise.all([queries.destroy(), lookups.end()]);
    },
  };
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

const withoutNames = new WeakSet<pg.Pool>();

/**
 * By a prepared statement: PostgreSQL parses and plans it once a connection. A pooler that gives every transaction another
 * connection and knows nothing of them (PgBouncer before 1.21, or with `max_prepared_statements = 0`) breaks that. Then
 * the pool does without.
 */
export async function queryNamed<Row extends pg.QueryResultRow>(
  pool: pg.Pool,
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

const unavailableCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ETIMEDOUT',
  'EPIPE',
  'ENOENT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  '25006', // read_only_sql_transaction: a standby, in the middle of a failover
  '53300', // too_many_connections
  '55P03', // lock_not_available
  '57014', // query_canceled: the statement timeout
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now
]);
const unavailableMessages =
  /Connection terminated|timeout (exceeded|expired)|Timeout acquiring a connection|Query read timeout|Client has encountered a connection error|not queryable|Cannot use a pool after/i;

/** Whether the database could not answer (try later), as opposed to a fault of ours. Looks down the causes. */
export function isDatabaseUnavailable(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { code, severity } = cause as { code?: unknown; severity?: unknown };
    // PostgreSQL ended the connection, or would not have it: no database, no such password, too many clients, a restart.
    if (severity === 'FATAL' || severity === 'PANIC') return true;
    if (typeof code === 'string' && (unavailableCodes.has(code) || code.startsWith('08'))) return true;
    if (unavailableMessages.test(cause.message)) return true;
    if (cause instanceof AggregateError && cause.errors.some(isDatabaseUnavailable)) return true;
  }
  return false;
}

export type DatabaseErrorClass = 'unavailable' | 'timeout' | 'conflict' | 'refused' | 'other';

/** A few kinds of failures, by PostgreSQL's codes. */
export function classOf(error: unknown): DatabaseErrorClass {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  if (code === '57014' || code === '55P03' || /timeout/i.test(String(message))) return 'timeout';
  if (isDatabaseUnavailable(error)) return 'unavailable';
  if (isRefusedData(error)) return 'refused';
  // transaction_rollback: deadlocks and serialization failures.
  return typeof code === 'string' && code.startsWith('40') ? 'conflict' : 'other';
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

/** Whether PostgreSQL refuses the row itself: the same statement would fail again (class 22 and 23 of its codes). */
export function isRefusedData(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' && /^2[23]/.test(code);
}

/** The constraint that a write broke, by its name; undefined for every other error. */
export function violatedConstraint(error: unknown): string | undefined {
  const { code, constraint } = (error ?? {}) as { code?: unknown; constraint?: unknown };
  return typeof code === 'string' && code.startsWith('23') && typeof constraint === 'string'
    ? constraint
    : undefined;
}
