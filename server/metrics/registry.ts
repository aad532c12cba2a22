/**
 * What is counted, in the shape of Prometheus: families of samples, each sample with its labels. A cell is found once and
 * kept; counting is then an addition to a number, which is all that an exchange pays. See docs/decisions/0014.
 */
export interface Family {
  /** A counter's ends in `_total`. */
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** How the same sample of several processes becomes one. */
  readonly combine: Combine;
  /** Upper bounds of a histogram's buckets, ascending; a last one without a bound is understood. */
  readonly bounds?: readonly number[];
  /** By labels as they are written: `route="/oauth/token",method="POST"`. */
  readonly samples: Readonly<Record<string, number | Distribution>>;
}

export type Combine = 'sum' | 'max' | 'min';

export interface Distribution {
  /** Observations in each bucket, not added up. */
  readonly counts: readonly number[];
  readonly sum: number;
}

export interface Cell {
  value: number;
}

export interface Histogram {
  readonly bounds: readonly number[];
  readonly counts: Float64Array;
  sum: number;
}

/** The cell of these label values, in the order of the label names; always the same one. */
export type Cells<T> = (...values: readonly string[]) => T;

export interface Description {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
}

export type Registry = ReturnType<typeof createRegistry>;

export function createRegistry() {
  const families: (() => Family)[] = [];
  const collectors: (() => void)[] = [];

  function cellsOf<T>(labels: readonly string[], create: () => T): { all: Map<string, T>; find: Cells<T> } {
    const all = new Map<string, T>();
    const find: Cells<T> = (...values) => {
      const key = labels.map((label, index) => `${label}="${escapeLabel(values[index] ?? '')}"`).join(',');
      const cell = all.get(key) ?? create();
      all.set(key, cell);
      return cell;
    };
    return { all, find };
  }

  function numbers(
    type: 'counter' | 'gauge',
    { name, help, labels = [] }: Description,
    combine: Combine,
  ): Cells<Cell> {
    const { all, find } = cellsOf(labels, (): Cell => ({ value: type === 'gauge' ? Number.NaN : 0 }));
    families.push(() => {
      // A gauge that nobody has set yet says nothing.
      const set = [...all].filter(([, { value }]) => !Number.isNaN(value));
      const samples = Object.fromEntries(set.map(([key, { value }]) => [key, value]));
      return { name, help, type, combine, samples };
    });
    // Without labels there is one sample, from the start: a counter that appears with its first event has no increase.
    if (labels.length === 0) find();
    return find;
  }

  return {
    counter: (description: Description): Cells<Cell> => numbers('counter', description, 'sum'),
    gauge: (description: Description, combine: Combine): Cells<Cell> =>
      numbers('gauge', description, combine),
    /** @param bounds ascending, in the unit that the name ends in */
    histogram({ name, help, labels = [] }: Description, bounds: readonly number[]): Cells<Histogram> {
      const create = (): Histogram => ({ bounds, counts: new Float64Array(bounds.length + 1), sum: 0 });
      const { all, find } = cellsOf(labels, create);
      families.push(() => {
        const read = ([key, { counts, sum }]: [string, Histogram]) => [key, { counts: [...counts], sum }];
        const samples = Object.fromEntries([...all].map(read));
        return { name, help, type: 'histogram', combine: 'sum', bounds, samples };
      });
      return find;
    },
    /** Called before every reading, to set what is looked at only then. */
    onRead: (collect: () => void): void => void collectors.push(collect),
    read(): Family[] {
      for (const collect of collectors) collect();
      return families.map((family) => family());
    },
  };
}

export function observe(histogram: Histogram, value: number): void {
  const { bounds, counts } = histogram;
  let bucket = 0;
  while (bucket < bounds.length && value > (bounds[bucket] as number)) bucket += 1;
  counts[bucket] = (counts[bucket] as number) + 1;
  histogram.sum += value;
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
