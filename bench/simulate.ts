import { fitCost, inputs, type Level } from './scaling-inputs.ts';
import { type Plan, plan, primariesFor } from './scaling-model.ts';
import { type SimulationOptions, type SimulationResult, simulate } from './simulation.ts';
import { table } from './statistics.ts';

/** The simulation against what was measured, and then the model's plans against the simulation. See docs/scaling.md. */

// Of an exchange's CPU: the form, the client and the digest come before the look-up, the signature after it.
const beforeShare = 0.4;
const loopbackMs = 0.05;
const seed = 20_261_124;
/**
 * The simulation must come so near to what was measured, or this command fails. Of look-ups by half, or by 0.01 where they are fewer than
 * 0.02, and by 0.04 at most, which is 0.016 ms of an instance's CPU.
 */
const allowed = {
  lookups: (measured: number) => Math.min(0.04, Math.max(0.01, measured / 2)),
  p50Share: 0.4,
};

function optionsFor(levels: readonly Level[]): SimulationOptions {
  const { exchangeMs, queryMs } = fitCost(levels);
  return {
    seed,
    durationMs: 12_000,
    warmUpMs: 2_000,
    load: { clients: 1 },
    instances: 1,
    instance: { before: exchangeMs * beforeShare, after: exchangeMs * (1 - beforeShare), query: queryMs },
    spread: inputs.spread,
    database: {
      servers: 1,
      query: inputs.postgres.queryMs,
      key: inputs.postgres.keyMs,
      write: inputs.postgres.eventMs,
    },
    networkMs: loopbackMs,
  };
}

interface Comparison {
  readonly what: string;
  readonly measured: number;
  readonly simulated: number;
  readonly allowed: number;
}

function compareWithMeasured(): Comparison[] {
  // Costs and times of one measuring run: those of the record are another's.
  const { levels, halfLoad } = inputs.measured;
  const base = optionsFor(levels);
  const lookups = levels.map(({ connections, lookups: measured }) => ({
    what: `look-ups an exchange, ${connections} connections`,
    measured,
    simulated: simulate({ ...base, load: { clients: connections } }).queriesAnExchange,
    allowed: allowed.lookups(measured),
  }));
  const latencies = halfLoad.map(({ rate, p50Ms }) => ({
    what: `p50 ms, ${rate} a second`,
    measured: p50Ms,
    simulated: simulate({ ...base, load: { phases: [{ fromMs: 0, rate }] } }).p50Ms,
    allowed: p50Ms * allowed.p50Share,
  }));
  return [...lookups, ...latencies];
}

interface Scenario {
  readonly name: string;
  readonly change: (one: Plan) => Partial<SimulationOptions>;
}

/** Plans go by the record. */
const planned = optionsFor(inputs.levels);

const steady = (rate: number) => ({ phases: [{ fromMs: 0, rate }] });
/** Renewals on top of the mean: the share of the caching clients of inputs.traffic.wave, within so many ms. */
function waveRate({ mean }: Plan, ms: number): number {
  const { cachingShare, renewalMs, wave } = inputs.traffic;
  return mean * (1 + (cachingShare * wave.share * renewalMs) / ms);
}

const scenarios: readonly Scenario[] = [
  { name: 'peak', change: ({ peak }) => ({ load: steady(peak) }) },
  { name: 'peak, an instance ends', change: ({ peak }) => ({ load: steady(peak), lossAtMs: 6_000 }) },
  {
    name: 'peak, a zone is lost',
    change: ({ peak, instances }) => ({
      load: steady(peak),
      instances: instances / inputs.targets.zones,
    }),
  },
  {
    name: 'wave in 5 min, an instance ends',
    change: (one) => ({ load: steady(waveRate(one, inputs.traffic.wave.ms)), lossAtMs: 6_000 }),
  },
  {
    name: 'wave in 1 min',
    change: (one) => ({
      durationMs: 32_000,
      load: {
        phases: [
          { fromMs: 0, rate: one.mean },
          { fromMs: 2_000, rate: waveRate(one, 60_000) },
        ],
      },
    }),
  },
];

function check(one: Plan, { change }: Scenario): SimulationResult {
  return simulate({
    ...planned,
    networkMs: inputs.targets.networkMs,
    instances: one.instances,
    database: { ...planned.database, servers: one.postgres.vcpu, write: planned.database.write * one.events },
    ...change(one),
  });
}

const percent = (value: number) => `${(value * 100).toFixed(0)} %`;

function main(): boolean {
  const compared = compareWithMeasured();
  const error = ({ measured, simulated }: Comparison) => simulated - measured;
  const near = compared.every((one) => Math.abs(error(one)) <= one.allowed);
  process.stdout.write(
    `\n${table(
      ['', 'measured', 'simulated', 'error', 'allowed'],
      compared.map((one) => [
        one.what,
        one.measured.toFixed(3),
        one.simulated.toFixed(3),
        error(one).toFixed(3),
        one.allowed.toFixed(3),
      ]),
    )}\n`,
  );
  for (const size of [10e6, 1e9, 100e9]) {
    // Of what needs several primaries, one with its share.
    const parts = primariesFor(plan(size, inputs));
    const one = plan(size / parts, inputs);
    const rows = scenarios.map((scenario) => {
      const result = check(one, scenario);
      return [
        scenario.name,
        result.rate.toFixed(0),
        percent(result.instanceUtilization),
        percent(result.databaseUtilization),
        result.queriesAnExchange.toFixed(2),
        result.p50Ms.toFixed(1),
        result.p99Ms.toFixed(1),
      ];
    });
    const columns = ['', 'a second', 'instances', 'PostgreSQL', 'look-ups', 'p50 ms', 'p99 ms'];
    process.stdout.write(
      `\n${size / 1e6} M a month, one of ${parts}: ${one.instances} instances, PostgreSQL with ${one.postgres.vcpu} vCPU; the model reckons with ${one.lookups.toFixed(2)} look-ups\n${table(columns, rows)}\n`,
    );
  }
  process.stdout.write(near ? '\nas near to the measured as allowed\n' : '\nTOO FAR from the measured\n');
  return near;
}

process.exitCode = main() ? 0 : 1;
