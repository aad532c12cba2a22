import type { Combine, Distribution, Family } from './registry.ts';

type Samples = Record<string, number | Distribution>;

/** What several processes have counted, as if one had. */
export function combineFamilies(processes: readonly (readonly Family[])[]): Family[] {
  const combined = new Map<string, Family & { samples: Samples }>();
  for (const family of processes.flat()) {
    const before = combined.get(family.name);
    if (!before) combined.set(family.name, { ...family, samples: { ...family.samples } });
    else add(before.samples, family);
  }
  return [...combined.values()];
}

/** What stays of a process that has ended: a counter that fell would look like one that began anew. */
export function remainsOf(families: readonly Family[]): Family[] {
  return families.filter(({ type }) => type !== 'gauge');
}

function add(samples: Samples, family: Family): void {
  for (const [labels, value] of Object.entries(family.samples)) {
    const before = samples[labels];
    samples[labels] = before === undefined ? value : join(before, value, family.combine);
  }
}

function join(a: number | Distribution, b: number | Distribution, combine: Combine): number | Distribution {
  if (typeof a === 'number' && typeof b === 'number') {
    if (combine === 'sum') return a + b;
    return combine === 'max' ? Math.max(a, b) : Math.min(a, b);
  }
  if (typeof a === 'number' || typeof b === 'number') return a;
  return { sum: a.sum + b.sum, counts: a.counts.map((count, index) => count + (b.counts[index] ?? 0)) };
}
