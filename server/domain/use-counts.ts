import type { Limit } from '../../config/policy.ts';

export type UseCounts = ReturnType<typeof createUseCounts>;

const slots = 2 ** 16;
const maximumCounted = 10_000;

/**
 * Counts how often each digest is used, for as good as nothing while none is used much: each has a slot by its bits,
 * which it shares with others. Only where a slot fills up to a quarter of the limit are those who use it from then on
 * counted one by one, so nobody is refused for another's use; the limit is met somewhere between its points and a
 * quarter more.
 */
export function createUseCounts({ points, window }: Limit) {
  const suspicious = Math.min(Math.floor(points / 4), 0xffff);
  const shared = new Uint16Array(slots);
  const counted = new Map<string, number>();
  let end = Number.NEGATIVE_INFINITY;

  return {
    /**
     * @param id what the digest stands for, for the exact count
     * @param now in ms
     * @returns the seconds to wait where it is one too many
     */
    count(digest: Buffer, id: string, now: number): number | undefined {
      if (now >= end) {
        end = now + window * 1000;
        shared.fill(0);
        counted.clear();
      }
      const slot = digest.readUInt16LE(8);
      const uses = shared[slot] as number;
      if (uses < suspicious) {
        shared[slot] = uses + 1;
        return undefined;
      }
      const own = (counted.get(id) ?? 0) + 1;
      // A process has no time to use so many tokens so often; whatever it is, it must not take up more.
      if (own > 1 || counted.size < maximumCounted) counted.set(id, own);
      return own > points ? Math.max(1, Math.ceil((end - now) / 1000)) : undefined;
    },
  };
}
