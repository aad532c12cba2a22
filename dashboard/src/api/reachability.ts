/** Whether the server answered when it was last asked. */
export interface Reachability {
  readonly reachable: () => boolean;
  readonly set: (reachable: boolean) => void;
  subscribe(listener: () => void): () => void;
}

export function createReachability(): Reachability {
  let reachable = true;
  const listeners = new Set<() => void>();
  return {
    reachable: () => reachable,
    set(next) {
      if (next === reachable) return;
      reachable = next;
      for (const listener of listeners) listener();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
