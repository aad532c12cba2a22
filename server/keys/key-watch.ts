import type { KeyRing, Rotation } from './key-ring.ts';

export interface KeyWatchDeps {
  readonly keyRing: KeyRing;
  /** Seconds between two readings of the keys. */
  readonly refreshInterval: number;
  /** Calls back when the keys may have changed; to be sooner than the next reading. */
  readonly listen: (onChange: () => void) => { close(): Promise<void> };
  /** Writes the audit event of a rotation that came due. */
  readonly record: Rotation['record'];
  readonly onError: (error: unknown) => void;
}

/** Keeps the keys of this instance up to date, and rotates them when their time has come. */
export function watchKeys({ keyRing, refreshInterval, listen, record, onError }: KeyWatchDeps) {
  let working: Promise<unknown> | undefined;

  async function work(): Promise<void> {
    try {
      await keyRing.refresh();
      await keyRing.rotateIfDue(record);
    } catch (error) {
      onError(error);
    }
  }

  /** One after the other: what is told during a reading is read after it. */
  function update(): void {
    working = (working ?? Promise.resolve()).then(work);
  }

  const timer = setInterval(update, refreshInterval * 1000).unref();
  const listener = listen(update);
  update();
  return {
    async close(): Promise<void> {
      clearInterval(timer);
      await listener.close();
      await working;
    },
  };
}
