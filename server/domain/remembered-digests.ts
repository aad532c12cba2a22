/**
 * What a process remembers of presented credentials, by bits of their SHA-256, in tables of a fixed size: nothing that
 * is presented can make them grow. A digest belongs to one bucket of a few slots and is known there by 32 other bits, so two
 * of them are mistaken for each other once in a billion.
 */
const ways = 8;

const bucketOf = (digest: Buffer, slots: number) => (digest.readUInt32LE(0) & (slots / ways - 1)) * ways;
/** Never 0, which stands for an empty slot. */
const marksOf = (digest: Buffer) => digest.readUInt32LE(4) || 1;

export type KnownDigests = ReturnType<typeof createKnownDigests>;

/** Credentials that were good here. A full bucket loses one of its own for a new one. */
export function createKnownDigests(slots: number) {
  const marks = new Uint32Array(slots);
  let turn = 0;

  function find(digest: Buffer): number {
    const bucket = bucketOf(digest, slots);
    const wanted = marksOf(digest);
    for (let slot = bucket; slot < bucket + ways; slot += 1) if (marks[slot] === wanted) return slot;
    return -1;
  }

  return {
    has: (digest: Buffer): boolean => find(digest) >= 0,
    add(digest: Buffer): void {
      if (find(digest) >= 0) return;
      const bucket = bucketOf(digest, slots);
      let slot = bucket;
      while (slot < bucket + ways && marks[slot] !== 0) slot += 1;
      if (slot === bucket + ways) {
        turn = (turn + 1) % ways;
        slot = bucket + turn;
      }
      marks[slot] = marksOf(digest);
    },
    delete(digest: Buffer): void {
      const slot = find(digest);
      if (slot >= 0) marks[slot] = 0;
    },
  };
}

export type FailedDigests = ReturnType<typeof createFailedDigests>;

/**
 * How often each has failed, in a window from its first failure. In a full bucket the one with the fewest failures gives
 * way: a flood of new values takes the place of its own kind before it takes that of one that is refused.
 * @param window in seconds
 */
export function createFailedDigests(slots: number, window: number) {
  const marks = new Uint32Array(slots);
  const counts = new Uint32Array(slots);
  /** In whole seconds of the caller's clock: a window ends up to a second early, and never late. */
  const since = new Uint32Array(slots);

  const isOver = (slot: number, second: number) => second - (since[slot] as number) >= window;

  function find(digest: Buffer, second: number): number {
    const bucket = bucketOf(digest, slots);
    const wanted = marksOf(digest);
    for (let slot = bucket; slot < bucket + ways; slot += 1)
      if (marks[slot] === wanted && !isOver(slot, second)) return slot;
    return -1;
  }

  /** The slot of this digest, else one for it. */
  function place(digest: Buffer, second: number): number {
    const found = find(digest, second);
    if (found >= 0) return found;
    const bucket = bucketOf(digest, slots);
    let chosen = bucket;
    for (let slot = bucket; slot < bucket + ways; slot += 1) {
      if (marks[slot] === 0 || isOver(slot, second)) {
        chosen = slot;
        break;
      }
      const [here, there] = [counts[slot] as number, counts[chosen] as number];
      // Of as many failures the one that has been here for longest.
      if (here < there || (here === there && (since[slot] as number) < (since[chosen] as number)))
        chosen = slot;
    }
    marks[chosen] = marksOf(digest);
    counts[chosen] = 0;
    since[chosen] = second;
    return chosen;
  }

  return {
    /** @param now in ms; @returns undefined where it has not been seen in this window, 0 where it was only turned away */
    failures(digest: Buffer, now: number): number | undefined {
      const slot = find(digest, Math.floor(now / 1000));
      return slot < 0 ? undefined : counts[slot];
    },
    /** @returns whole seconds, from 1, until the window of one that is remembered is over */
    wait(digest: Buffer, now: number): number {
      const second = Math.floor(now / 1000);
      const slot = find(digest, second);
      return slot < 0 ? 1 : Math.max(1, (since[slot] as number) + window - second);
    },
    add(digest: Buffer, now: number): void {
      const second = Math.floor(now / 1000);
      const slot = place(digest, second);
      // Until now it was only turned away: the window is that of the failures.
      if (counts[slot] === 0) since[slot] = second;
      counts[slot] = (counts[slot] as number) + 1;
    },
    /** Remembers one that nobody has looked up. */
    turnAway(digest: Buffer, now: number): void {
      place(digest, Math.floor(now / 1000));
    },
  };
}
