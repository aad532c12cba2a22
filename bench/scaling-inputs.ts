import { readFileSync } from 'node:fs';
import { policy } from '../config/policy.ts';
import type { Report } from './report.ts';

/** What the capacity model and the simulation go by. Times in ms, sizes in bytes, prices in US dollars a month. */

/** One server, loaded by so many connections with one request in flight on each. */
export interface Level {
  readonly connections: number;
  /** Queries an exchange that look platform tokens up. */
  readonly lookups: number;
  /** CPU of the server process, an exchange. */
  readonly cpuMs: number;
}

/**
 * `npm run bench:scaling -- --measure`, on two cores that others used: of five short runs at each level the one with the
 * least CPU.
 */
const measuredLevels: readonly Level[] = [
  { connections: 1, lookups: 1, cpuMs: 0.536 },
  { connections: 16, lookups: 0.092, cpuMs: 0.224 },
  { connections: 64, lookups: 0.027, cpuMs: 0.185 },
  { connections: 256, lookups: 0.007, cpuMs: 0.211 },
];

/** Of the record of `npm run bench`, where there is one with enough levels: the model draws a line through them. */
function readLevels(): { levels: readonly Level[]; source: string } {
  const constants = { levels: measuredLevels, source: 'the constants of bench/scaling-inputs.ts' };
  try {
    const file = new URL('../docs/performance/bench.json', import.meta.url);
    const { rows } = JSON.parse(readFileSync(file, 'utf8')) as Report;
    const levels = rows.filter(({ name }) => name === 'product');
    return levels.length < measuredLevels.length
      ? constants
      : { levels, source: 'docs/performance/bench.json' };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return constants;
  }
}

const { levels, source } = readLevels();

export const inputs = {
  levels,
  levelsSource: source,
  /** What the simulation is held against. */
  measured: {
    levels: measuredLevels,
    /** p50 of a server at a fixed rate, over loopback: the lowest of six short runs beside other work. */
    halfLoad: [
      { rate: 500, p50Ms: 0.91 },
      { rate: 1_000, p50Ms: 0.97 },
    ],
  },
  /** Standard deviation of the logarithm of a service time. An assumption: 1.9 times the median at the 95th percentile. */
  spread: 0.4,

  postgres: {
    /**
     * CPU of a look-up: 0.17, 0.50, 0.98 and 2.32 ms with 1, 11, 38 and 147 keys (--measure, /proc). The line through the
     * first, where the plans are, and the last; it has 0.2 to 0.3 ms too little in between.
     */
    queryMs: 0.159,
    keyMs: 0.0147,
    /** CPU of writing an event with its token's last use, in batches (--measure, 0.03 to 0.06). */
    eventMs: 0.05,
  },
  storage: {
    /** --measure, 200,000 tokens: table, indexes, and the same of its last use. */
    token: 1_159,
    /** Of these what an exchange touches: table and digest, users and memberships; of the last use the table and its key. */
    tokenHot: 221 + 79 + 20 + 85 + 32,
    /** What the write of a last use changes: table, key, and the index of its organization. That of all grows at its end alone. */
    uses: [85, 32, 59],
    /** --measure, with its share of three indexes; one entry in the index by token (from its columns: 16 + 8 + 16 + header). */
    event: 377,
    eventTokenEntry: 64,
    /** WAL of an event and its last use, without full pages: --measure, no checkpoint before. */
    walEvent: 1_150,
    /** A full page in the WAL: --measure, (bytes after a checkpoint − the line above) / full pages; off and on wal_compression. */
    walFullPage: 6_800,
    walFullPageCompressed: 2_700,
    page: 8_192,
  },
  lists: {
    /** docs/performance.md: a signed list with 1 % revoked, the most that building one takes, over HTTP. */
    bytes: 3_800,
    buildMs: 12,
    /** Assumptions: bytes of a 304; of the tokens, so many revoked a month; instances of product APIs that meet every list. */
    notModifiedBytes: 300,
    revokedAMonth: 0.01,
    verifiers: 100,
  },

  /** Assumptions about traffic. */
  traffic: {
    /** Exchanges by clients that keep their JWT; the rest exchange for each call. */
    cachingShare: 0.5,
    /** The client kit renews at 80 to 90 % of a JWT's life (sdk/client/README.md). */
    renewalMs: policy.accessTokenLifetime * 1000 * 0.85,
    /** Calls a minute of a client that never keeps it. */
    neverCachingAMinute: 60,
    /** Busiest minute to the month's mean. */
    peak: 4,
    /** A renewal wave: so many of the caching clients within this time, on top of the mean. */
    wave: { share: 0.1, ms: 5 * 60_000 },
    /** Tokens that exist for each that is used: unused, expired and revoked ones stay. */
    tokensForEachUsed: 2,
  },
  /** Assumptions about machines. */
  targets: {
    utilization: 0.6,
    /** Of what is left when one of the zones is lost at the peak. */
    utilizationOfOneZone: 0.9,
    zones: 2,
    /** From accepting a request to its answer, for the number of exchanges in flight; bench:simulate says what it is. */
    answerMs: 2,
    networkMs: 0.25,
    checkpointMs: 15 * 60_000,
    cacheHit: 0.75,
    walDays: 7,
  },
  /** Assumptions: what one primary is reckoned to bear. `max_connections` without a pooler. */
  primary: {
    vcpu: 64,
    ramGb: 512,
    walMbPerSecond: 100,
    storageTb: 16,
    connections: 500,
    connectionsOfAnInstance: 16,
  },
  /** Assumptions: public list prices of large clouds in round figures, no vendor's own. A standby costs what the primary does. */
  prices: { vcpu: 30, ramGb: 4, ssdGb: 0.15, objectGb: 0.025, cdnGb: 0.05 },
  instanceRamGb: 0.5,
  eventMonths: policy.exchangeEventMonths,
  monthMs: 730 * 3_600_000,
};

export type Inputs = typeof inputs;

/** The straight line of CPU by look-ups: what an exchange costs, and what each query adds. */
export function fitCost(rows: readonly Level[]): { exchangeMs: number; queryMs: number } {
  const mean = (of: (row: Level) => number) => rows.reduce((sum, row) => sum + of(row), 0) / rows.length;
  const [lookups, cpu] = [mean((row) => row.lookups), mean((row) => row.cpuMs)];
  const slope =
    mean((row) => (row.lookups - lookups) * (row.cpuMs - cpu)) / mean((row) => (row.lookups - lookups) ** 2);
  const queryMs = Math.max(0, slope);
  return { exchangeMs: cpu - queryMs * lookups, queryMs };
}
