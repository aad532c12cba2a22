import { setTimeout } from 'node:timers/promises';
import { DatabaseUnavailableError, isSilence } from './failures.ts';

export interface SilenceDeps {
  /** One question on a connection of its own; rejects after a time of its own. */
  readonly ask: () => Promise<unknown>;
  /** The database has just been found silent: connections that are open lead nowhere. */
  readonly onSilent: () => void;
  readonly pauseMs: number;
}

/**
 * Whether the database answers at all. One that refuses does so at once, and costs nobody time; one that is silent costs
 * every question a timeout. After the first timeout one question at a time is asked here: where that is not answered
 * either, everybody else is refused at once until it is.
 */
export function watchSilence({ ask, onSilent, pauseMs }: SilenceDeps) {
  let asking = false;
  let silent = false;
  let closed = false;

  async function answers(): Promise<boolean> {
    try {
      await ask();
      return true;
    } catch (error) {
      // A refusal is an answer.
      return !isSilence(error);
    }
  }

  async function watch(): Promise<void> {
    asking = true;
    while (!closed && !(await answers())) {
      if (!silent) onSilent();
      silent = true;
      await setTimeout(pauseMs, undefined, { ref: false });
    }
    silent = false;
    asking = false;
  }

  return {
    /** @throws DatabaseUnavailableError while the database is silent */
    refuse(): void {
      if (silent) throw new DatabaseUnavailableError('the database does not answer');
    },
    /** Told of every failure: a timeout is looked into. */
    suspect(error: unknown): void {
      if (!asking && isSilence(error)) void watch();
    },
    close(): void {
      closed = true;
    },
  };
}
