import { DatabaseUnavailableError } from './failures.ts';

export interface JoinedCallsOptions<Key, Value> {
  /** One call for many keys. @returns as many values, in the order of the keys */
  readonly load: (keys: readonly Key[]) => Promise<readonly Value[]>;
  /** Keys of one call. */
  readonly maximumKeys: number;
  /** Calls under way at once: one that hangs does not hold up the rest. */
  readonly maximumCalls: number;
  /** Keys that wait for a call: one more is refused at once. */
  readonly maximumWaiting: number;
}

export interface JoinedCalls<Key, Value> {
  (key: Key): Promise<Value>;
  /** How long the one that waits longest has waited for a call. */
  waitMs(): number;
}

/**
 * Joins what is asked within one turn of the event loop, or while all calls are under way, into one call. Nobody
 * waits for a timer, nothing is kept, and a call never takes in a key that was asked after it began: what it reads
 * is the state after the question.
 */
export function joinCalls<Key, Value>({
  load,
  maximumKeys,
  maximumCalls,
  maximumWaiting,
}: JoinedCallsOptions<Key, Value>): JoinedCalls<Key, Value> {
  let waiting: {
    key: Key;
    resolve: (value: Value) => void;
    reject: (error: unknown) => void;
    /** When it was asked; 0 where a call was free for it. */
    since: number;
  }[] = [];
  let calls = 0;
  let scheduled = false;

  function schedule(): void {
    if (scheduled || waiting.length === 0 || calls >= maximumCalls) return;
    scheduled = true;
    // After all that this turn has read from its sockets; a microtask would come after the first of them.
    setImmediate(send);
  }

  async function send(): Promise<void> {
    scheduled = false;
    const batch = waiting.slice(0, maximumKeys);
    waiting = waiting.slice(maximumKeys);
    calls += 1;
    schedule();
    try {
      const values = await load(batch.map(({ key }) => key));
      for (const [index, { resolve }] of batch.entries()) resolve(values[index] as Value);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
    calls -= 1;
    schedule();
  }

  const find = (key: Key) =>
    new Promise<Value>((resolve, reject) => {
      if (waiting.length >= maximumWaiting) {
        reject(new DatabaseUnavailableError('too many look-ups wait'));
        return;
      }
      waiting.push({ key, resolve, reject, since: calls < maximumCalls ? 0 : performance.now() });
      schedule();
    });
  const waitMs = () => {
    const since = waiting[0]?.since ?? 0;
    return since === 0 ? 0 : performance.now() - since;
  };
  return Object.assign(find, { waitMs });
}
