import { useRef, useState } from 'react';

/** One thing that a click does: a second click while it runs does nothing. */
export function useAction<Arguments extends unknown[]>(work: (...args: Arguments) => Promise<void>) {
  const [pending, setPending] = useState(false);
  const running = useRef(false);

  async function run(...args: Arguments): Promise<void> {
    // The state is one rendering late for a double click.
    if (running.current) return;
    running.current = true;
    setPending(true);
    try {
      await work(...args);
    } finally {
      running.current = false;
      setPending(false);
    }
  }

  return { pending, run };
}
