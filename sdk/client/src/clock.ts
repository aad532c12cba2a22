/** Time, so that tests need not wait for it. */
export interface Clock {
  /** Milliseconds that only go forward. */
  now(): number;
  /** Milliseconds of the calendar: they notice a machine that was asleep, which `now` may not. */
  date(): number;
  /** Rejects with the signal's reason where that aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  date: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      }, Math.ceil(ms));
      signal?.addEventListener('abort', onAbort, { once: true });
    }),
};

/** The promise, or the signal's reason where that aborts first. What the promise stands for goes on. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  if (signal.aborted) {
    promise.catch(() => {});
    throw signal.reason;
  }
  let onAbort: () => void = () => {};
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/**
 * @param work gets a signal that aborts when the time is over
 * @throws {Error} when the time is over, even where `work` does not heed its signal
 */
export async function withTimeout<T>(
  clock: Clock,
  ms: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  const done = new AbortController();
  const expiry = clock.sleep(ms, done.signal).then(() => {
    const error = new Error(`no complete answer within ${ms} ms`);
    late.abort(error);
    throw error;
  });
  try {
    return await Promise.race([work(late.signal), expiry]);
  } finally {
    expiry.catch(() => {});
    done.abort();
  }
}
