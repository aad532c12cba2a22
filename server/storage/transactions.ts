import { setTimeout } from 'node:timers/promises';
import type { Knex } from 'knex';
import { policy } from '../../config/policy.ts';
import { DatabaseUnavailableError, isConflict, isConnectionLost, isUndone } from './failures.ts';

export interface TransactionOptions<T> {
  /**
   * For what must not be there without somebody who knows of it: undoes it, in a transaction of its own, where the caller
   * was told that it failed. It may have failed indeed: then there is nothing to undo.
   */
  readonly undo?: (result: T, transaction: Knex.Transaction) => Promise<unknown>;
}

/**
 * Runs `work` in a transaction, again where that is safe: so it changes nothing but the database.
 * @throws DatabaseUnavailableError where nobody knows yet whether it was committed
 */
export type Transact = <T>(
  work: (transaction: Knex.Transaction) => Promise<T>,
  options?: TransactionOptions<T>,
) => Promise<T>;

/** A transaction holds locks: it waits for others only so long, and is ended where this process falls silent in it. */
const transactionLimits = `SET LOCAL lock_timeout = ${policy.lockTimeoutMs};
  SET LOCAL idle_in_transaction_session_timeout = ${policy.idleTransactionTimeoutMs}`;

/** By which a transaction is known after its connection is lost. */
interface Mark {
  /** Its id; null where it has written nothing. */
  readonly id: string | null;
  /** Ids are the transaction's own within a timeline: after a failover another one may have it. */
  readonly timeline: string;
}

const timeline = 'substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)';
const markStatement = `SELECT pg_current_xact_id_if_assigned()::text AS id, ${timeline} AS timeline`;
const statusStatement = `SELECT CASE WHEN ${timeline} = ? THEN coalesce(pg_xact_status(?::text::xid8), 'unknown')
  ELSE 'unknown' END AS status`;

type Outcome = 'committed' | 'aborted' | 'unknown';

export interface TransactionsDeps {
  readonly knex: Knex;
  /** Told where the outcome stayed open for long, and of undoing that failed. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

/** The one place where transactions are tried again, and where a lost answer to a COMMIT is looked into. */
export function createTransactions({ knex, onError = () => {} }: TransactionsDeps) {
  let closed = false;
  let unsettled = 0;

  /** @returns undefined where the database cannot say */
  async function findOutcome({ id, timeline }: Mark, patienceMs: number): Promise<Outcome | undefined> {
    const until = performance.now() + patienceMs;
    do {
      try {
        const { rows } = await knex.raw(statusStatement, [timeline, id]);
        const { status } = rows[0] as { status: Outcome | 'in progress' };
        if (status !== 'in progress') return status;
      } catch {
        // Away, or a standby that is not promoted yet.
      }
      await setTimeout(policy.commitQuestionPauseMs, undefined, { ref: false });
    } while (!closed && performance.now() < until);
    return undefined;
  }

  /** Behind the answer: it may take as long as the database is away. */
  async function settleLater<T>(mark: Mark, result: T, { undo }: TransactionOptions<T>): Promise<void> {
    if (!undo) return;
    if (unsettled >= policy.unsettledTransactions) {
      onError(new Error('a transaction whose outcome is not known was left: too many wait for the database'));
      return;
    }
    unsettled += 1;
    try {
      const outcome = await findOutcome(mark, policy.commitSettlementMs);
      if (outcome === undefined) throw new Error('the outcome of a transaction could not be found out');
      if (outcome !== 'aborted') await transact((transaction) => undo(result, transaction));
    } catch (error) {
      onError(error);
    } finally {
      unsettled -= 1;
    }
  }

  async function transact<T>(
    work: (transaction: Knex.Transaction) => Promise<T>,
    options: TransactionOptions<T> = {},
  ): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      let worked: { readonly result: T; readonly mark: Mark } | undefined;
      try {
        return await knex.transaction(async (transaction) => {
          await transaction.raw(transactionLimits);
          const result = await work(transaction);
          const { rows } = await transaction.raw(markStatement);
          worked = { result, mark: rows[0] as Mark };
          return result;
        });
      } catch (error) {
        // Before its COMMIT a transaction whose connection is lost is undone. After it, it may be or may not.
        const open = worked as { readonly result: T; readonly mark: Mark } | undefined;
        if (open && open.mark.id !== null && !isUndone(error)) {
          const outcome = await findOutcome(open.mark, policy.commitPatienceMs);
          if (outcome === 'committed') return open.result;
          if (outcome !== 'aborted') {
            void settleLater(open.mark, open.result, options);
            throw new DatabaseUnavailableError('the answer to a COMMIT was lost', { cause: error });
          }
        } else if (!isConflict(error) && !isConnectionLost(error)) throw error;
        if (attempt === policy.transactionAttempts) throw error;
        // Those that met must not meet again.
        await setTimeout(policy.transactionPauseMs * attempt * (1 + Math.random()), undefined, {
          ref: false,
        });
      }
    }
  }

  return {
    transact: transact as Transact,
    close(): void {
      closed = true;
    },
  };
}
