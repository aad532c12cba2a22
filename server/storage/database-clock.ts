import { policy } from '../../config/policy.ts';
import type { Database } from './database.ts';

/** The time that all instances go by: the database's. See docs/decisions/0016. */
export interface DatabaseClock {
  readonly now: () => Date;
  /** How far the database's clock is ahead of this process's, in milliseconds, as last measured. */
  readonly offsetMs: () => number;
  /** Asks the database. Where it does not answer, what was measured before holds. */
  measure(): Promise<void>;
  close(): void;
}

/** @param onOffset told of every measure, for the log */
export function createDatabaseClock(
  { lookups }: Pick<Database, 'lookups'>,
  onOffset: (offsetMs: number) => void = () => {},
): DatabaseClock {
  let offset = 0;
  let timer: NodeJS.Timeout | undefined;

  /** @returns whether it says enough */
  async function measureOnce(): Promise<boolean> {
    try {
      const before = Date.now();
      const started = performance.now();
      const { rows } = await lookups.query<{ ms: string }>(
        'SELECT extract(epoch FROM clock_timestamp()) * 1000 AS ms',
      );
      const took = performance.now() - started;
      // The answer was made somewhere within this time: of a slow one, less than that says nothing.
      const measured = Math.round(Number(rows[0]?.ms) - (before + took / 2));
      if (took > policy.clockMeasureMs && Math.abs(measured) <= took) return false;
      // Within a measure's own error the clocks are the same, and time goes on evenly.
      offset = Math.abs(measured) < policy.clockMeasureMs ? 0 : measured;
      onOffset(measured);
      return true;
    } catch {
      // Whoever needs the database says that it is away.
      return false;
    }
  }

  return {
    now: () => (offset === 0 ? new Date() : new Date(Date.now() + offset)),
    offsetMs: () => offset,
    async measure() {
      timer ??= setInterval(measureOnce, policy.clockInterval * 1000).unref();
      // The first may be held up by the connection that it opens.
      if (!(await measureOnce())) await measureOnce();
    },
    close: () => clearInterval(timer),
  };
}
