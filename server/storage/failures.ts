/** What the errors of PostgreSQL and its driver mean. */

/** Refused here, before the database was asked: it is silent, or too many wait for it. */
export class DatabaseUnavailableError extends Error {}

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
  '25P03', // idle_in_transaction_session_timeout
  '40001', // serialization_failure, after the tries that there were
  '40P01', // deadlock_detected, likewise
  '53300', // too_many_connections
  '53400', // configuration_limit_exceeded
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
    if (cause instanceof DatabaseUnavailableError) return true;
    const { code, severity } = cause as { code?: unknown; severity?: unknown };
    // PostgreSQL ended the connection, or would not have it: no database, no such password, too many clients, a restart.
    if (severity === 'FATAL' || severity === 'PANIC') return true;
    if (typeof code === 'string' && (unavailableCodes.has(code) || code.startsWith('08'))) return true;
    if (isDatabaseFault(cause)) return true;
    if (unavailableMessages.test(cause.message)) return true;
    if (cause instanceof AggregateError && cause.errors.some(isDatabaseUnavailable)) return true;
  }
  return false;
}

/**
 * Whether PostgreSQL could not do what is right in itself, and will when its operator has mended it: its disk is full
 * (class 53), its files cannot be read (58), it has an error of its own (XX), or a trigger refuses it (P0001, of which
 * nothing of ours raises any).
 */
export function isDatabaseFault(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' && code !== '53300' && /^(53...|58...|XX...|P0001)$/.test(code);
}

const lostCodes = new Set(['ECONNRESET', 'EPIPE', '57P01', '57P02', '25P03']);
const lostMessages =
  /Connection terminated unexpectedly|Client has encountered a connection error|not queryable/;

/** Whether a connection broke that had been made: what was asked on it may be asked on another one, if it only reads. */
export function isConnectionLost(error: unknown): boolean {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  return (typeof code === 'string' && lostCodes.has(code)) || lostMessages.test(String(message));
}

const silentMessages = /Query read timeout|timeout expired|due to connection timeout/;

/** Whether nothing came back within a time of ours; not the wait for a connection of the pool. */
export function isSilence(error: unknown): boolean {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  return code === 'ETIMEDOUT' || code === 'EHOSTUNREACH' || silentMessages.test(String(message));
}

/** Whether a connection that had been made never answered: it leads nowhere, for PostgreSQL's own timeouts would have come first. */
export function isStranded(error: unknown): boolean {
  return /Query read timeout/.test(String((error as { message?: unknown } | undefined)?.message));
}

/** Whether the server takes no writes. */
export function isReadOnly(error: unknown): boolean {
  return (error as { code?: unknown } | undefined)?.code === '25006';
}

/** Whether PostgreSQL itself says that it undid the transaction, and why; it is as if it had never begun. */
export function isUndone(error: unknown): boolean {
  return (error as { severity?: unknown } | undefined)?.severity === 'ERROR';
}

/** Whether transactions got into each other's way: the same one passes at another try. */
export function isConflict(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return code === '40001' || code === '40P01';
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

export type DatabaseErrorClass = 'unavailable' | 'timeout' | 'conflict' | 'refused' | 'other';

/** A few kinds of failures, for those who count them. */
export function classOf(error: unknown): DatabaseErrorClass {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  if (isConflict(error)) return 'conflict';
  if (code === '57014' || code === '55P03' || /timeout/i.test(String(message))) return 'timeout';
  if (isDatabaseUnavailable(error)) return 'unavailable';
  return isRefusedData(error) ? 'refused' : 'other';
}
