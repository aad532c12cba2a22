import { median, printSpread, type Spread, spreadOf, table } from './statistics.ts';

/** What the measurements of `npm run bench` come to: ratios first. */

export const names = ['noop', 'hand-written', 'client-credentials', 'product'] as const;
export type Name = (typeof names)[number];

/** One candidate in one round. Times in ms. */
export interface Measurement {
  readonly name: Name;
  readonly connections: number;
  readonly round: number;
  /** Requests a second, at most. */
  readonly rate: number;
  /** At most load, which is mostly waiting. */
  readonly p50: number;
  readonly p99: number;
  /** At half of that load, at a fixed rate. */
  readonly halfP50: number;
  readonly halfP99: number;
  /** A request, of the whole server process: all threads, background writes included. */
  readonly cpuMs: number;
  /** A request, of the process that makes the load. */
  readonly loadCpuMs: number;
  /** Queries a request that look a platform token up. */
  readonly lookups: number;
  /** All statements a request, those of the background included. */
  readonly statements: number;
  /** The largest resident set since the start of the process, in bytes. */
  readonly rssMax: number;
}

export interface Conditions {
  readonly cores: number;
  readonly cpu: string;
  readonly node: string;
  readonly postgres: string;
  readonly poolSize: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly tokens: number;
}

interface Row {
  readonly name: Name;
  readonly connections: number;
  readonly requestsPerSecond: number;
  readonly cpuMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly halfP50Ms: number;
  readonly halfP99Ms: number;
  readonly lookups: number;
  readonly statements: number;
  readonly rssMb: number;
  readonly loadCpuMs: number;
}

/** The product to another, round by round. */
interface Comparison {
  readonly connections: number;
  readonly to: 'hand-written' | 'client-credentials';
  readonly throughput: Spread;
  readonly cpu: Spread;
}

interface Target {
  readonly text: string;
  readonly value: number;
  readonly bound: number;
  readonly met: boolean;
}

export interface Report {
  readonly met: boolean;
  readonly targets: readonly Target[];
  readonly comparisons: readonly Comparison[];
  readonly rows: readonly Row[];
  readonly conditions: Conditions;
}

const others = ['hand-written', 'client-credentials'] as const;

export function createReport(measurements: readonly Measurement[], conditions: Conditions): Report {
  const levels = [...new Set(measurements.map(({ connections }) => connections))];
  const of = (name: Name, connections: number) =>
    measurements.filter((one) => one.name === name && one.connections === connections);
  const rows = levels.flatMap((connections) =>
    names.map((name) => summarize(name, connections, of(name, connections))),
  );
  const comparisons = levels.flatMap((connections) =>
    others.map((to) => ({
      connections,
      to,
      throughput: compare(of('product', connections), of(to, connections), ({ rate }) => rate),
      cpu: compare(of('product', connections), of(to, connections), ({ cpuMs }) => cpuMs),
    })),
  );
  const targets = createTargets(comparisons, rows);
  return { met: targets.every(({ met }) => met), targets, comparisons, rows, conditions };
}

function summarize(name: Name, connections: number, rounds: readonly Measurement[]): Row {
  const of = (key: Exclude<keyof Measurement, 'name'>, digits: number) =>
    round(median(rounds.map((one) => one[key])), digits);
  return {
    name,
    connections,
    requestsPerSecond: of('rate', 0),
    cpuMs: of('cpuMs', 4),
    p50Ms: of('p50', 2),
    p99Ms: of('p99', 2),
    halfP50Ms: of('halfP50', 2),
    halfP99Ms: of('halfP99', 2),
    lookups: of('lookups', 3),
    statements: of('statements', 3),
    rssMb: round(Math.max(...rounds.map(({ rssMax }) => rssMax)) / 1e6, 0),
    loadCpuMs: of('loadCpuMs', 4),
  };
}

function compare(
  product: readonly Measurement[],
  other: readonly Measurement[],
  value: (one: Measurement) => number,
): Spread {
  const ratios = product.map((one) => {
    const beside = other.find((candidate) => candidate.round === one.round);
    return beside ? value(one) / value(beside) : Number.NaN;
  });
  const { median: middle, lowest, highest } = spreadOf(ratios);
  return { median: round(middle, 3), lowest: round(lowest, 3), highest: round(highest, 3) };
}

/** What issue and documentation promise, where it was measured. */
function createTargets(comparisons: readonly Comparison[], rows: readonly Row[]): Target[] {
  const targets: Target[] = [];
  const atMost = (text: string, value: number | undefined, bound: number) => {
    if (value !== undefined) targets.push({ text, value, bound, met: value <= bound });
  };
  const atLeast = (text: string, value: number | undefined, bound: number) => {
    if (value !== undefined) targets.push({ text, value, bound, met: value >= bound });
  };
  const to = (name: Comparison['to']) => comparisons.find((one) => one.connections === 64 && one.to === name);
  const product = (connections: number) =>
    rows.find((row) => row.name === 'product' && row.connections === connections);
  const [handWritten, library, at64, at1] = [
    to('hand-written'),
    to('client-credentials'),
    product(64),
    product(1),
  ];
  atLeast(
    'throughput to the hand-written server, 64 connections, at least',
    handWritten?.throughput.median,
    1,
  );
  atMost('CPU to the hand-written server, 64 connections, at most', handWritten?.cpu.median, 1);
  atLeast("throughput to the library's client_credentials, at least", library?.throughput.median, 1.25);
  atMost("CPU to the library's client_credentials, at most", library?.cpu.median, 0.8);
  atMost('statements an exchange, 64 connections, at most', at64?.statements, 0.25);
  atMost('look-ups an exchange, 1 connection, at most', at1?.lookups, 1);
  atMost('p99 / p50 at half load, 64 connections, at most', at64 && at64.halfP99Ms / at64.halfP50Ms, 3);
  const memory = Math.max(...rows.filter(({ name }) => name === 'product').map(({ rssMb }) => rssMb));
  atMost('resident memory, MB, at most', memory, 200);
  return targets;
}

export function print(report: Report): string {
  const { targets, comparisons, rows, conditions } = report;
  return [
    '',
    ...targets.map(
      ({ text, value, bound, met }) => `${met ? 'met   ' : 'MISSED'}  ${text} ${bound}: ${value.toFixed(2)}`,
    ),
    '',
    table(
      ['product to', 'connections', 'throughput', 'CPU a request'],
      comparisons.map((one) => [
        one.to,
        String(one.connections),
        printSpread(one.throughput),
        printSpread(one.cpu),
      ]),
    ),
    '',
    table(columns, rows.map(cells)),
    '',
    `Medians of ${conditions.rounds} alternating rounds of ${conditions.seconds} s; in brackets the lowest and highest round; ${conditions.tokens} platform tokens, look-up pool of ${conditions.poolSize}.`,
    `Node ${conditions.node}, PostgreSQL ${conditions.postgres}, ${conditions.cores} cores (${conditions.cpu}), shared by server, load and database.`,
    '',
  ].join('\n');
}

export const columns = [
  'server',
  'connections',
  'requests/s',
  'CPU ms',
  'p50 ms',
  'p99 ms',
  'half p50',
  'half p99',
  'look-ups',
  'statements',
  'RSS MB',
];

export const cells = (row: Row): string[] => [
  row.name,
  String(row.connections),
  String(row.requestsPerSecond),
  row.cpuMs.toFixed(3),
  row.p50Ms.toFixed(2),
  row.p99Ms.toFixed(2),
  row.halfP50Ms.toFixed(2),
  row.halfP99Ms.toFixed(2),
  row.lookups.toFixed(2),
  row.statements.toFixed(2),
  String(row.rssMb),
];

const round = (value: number, digits: number) => Number(value.toFixed(digits));
