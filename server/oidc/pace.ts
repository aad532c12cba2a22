import { setTimeout } from 'node:timers/promises';
import { policy } from '../../config/policy.ts';

/** Waits until the next refusal may leave. */
export type Pace = () => Promise<void>;

export interface PaceDeps {
  /** Monotonic, in ms. */
  readonly now: () => number;
  /** @param ms */
  readonly delay?: ((ms: number) => Promise<unknown>) | undefined;
}

/**
 * So many refusals leave in a second, and no more: those beyond it wait for their turn. Nobody notices but a storm, whose clients try
 * again as soon as they are answered, and so are as fast as the answers. (The generic cell rate algorithm: one number.)
 */
export function createPace({ now, delay = setTimeout }: PaceDeps): Pace {
  const everyMs = 1_000 / policy.refusalsASecond;
  /** When the last refusal would have left, had all of them kept to the pace. */
  let last = 0;
  return async () => {
    const at = now();
    const turn = Math.max(last, at) + everyMs;
    const wait = turn - at - policy.refusalBurst * everyMs;
    // Each that waits takes memory and a connection: who comes when too many do is answered at once.
    if (wait > policy.refusalWaitMs) return;
    last = turn;
    if (wait > 0) await delay(wait);
  };
}
