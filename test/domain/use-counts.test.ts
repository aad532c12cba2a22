import { describe, expect, it } from 'vitest';
import { createUseCounts } from '../../server/domain/use-counts.ts';

const digest = Buffer.alloc(32, 1);

describe('use counts', () => {
  it('refuse one that is used more than its limit and a quarter, until the window is over', () => {
    const uses = createUseCounts({ points: 100, window: 60 });
    const first = Array.from({ length: 200 }, () => uses.count(digest, 'a', 1_000)).findIndex(Boolean);
    expect(first).toBe(125);
    expect(uses.count(digest, 'a', 31_000)).toBe(30);
    expect(uses.count(digest, 'a', 61_000)).toBeUndefined();
  });

  it('refuse nobody who shares a slot with one', () => {
    const uses = createUseCounts({ points: 100, window: 60 });
    for (let n = 0; n < 1_000; n += 1) uses.count(digest, 'busy', 0);
    expect(uses.count(digest, 'busy', 0)).toBe(60);
    for (let n = 0; n < 100; n += 1) expect(uses.count(digest, 'quiet', 0)).toBeUndefined();
    expect(uses.count(digest, 'quiet', 0)).toBe(60);
  });

  it('hold however many are used at once', () => {
    const uses = createUseCounts({ points: 4, window: 60 });
    for (let n = 0; n < 50_000; n += 1) expect(uses.count(digest, String(n), 0)).toBeUndefined();
    // Beyond what is counted one by one nobody is refused.
    for (let n = 0; n < 10; n += 1) expect(uses.count(digest, 'late', 0)).toBeUndefined();
  });
});
