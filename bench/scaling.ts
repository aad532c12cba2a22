import { parseArgs } from 'node:util';
import { type Inputs, inputs } from './scaling-inputs.ts';
import { measureScaling } from './scaling-measure.ts';
import { type Plan, plan, primariesFor } from './scaling-model.ts';
import { run } from './stage.ts';
import { table } from './statistics.ts';

/** Instances, PostgreSQL and monthly cost by the capacity model of docs/scaling.md; `--measure` measures its inputs anew. */

const sizes = [10e6, 1e9, 100e9];
const number = (value: number, digits = 0) =>
  value.toLocaleString('en-US', { maximumFractionDigits: digits, minimumFractionDigits: digits });
const dollars = (value: number) => `$${number(value)}`;

const lines: readonly [string, (one: Plan) => string][] = [
  ['exchanges a second, mean', ({ mean }) => number(mean, 1)],
  ['exchanges a second, peak', ({ peak }) => number(peak)],
  ['look-ups an exchange, peak', ({ lookups }) => number(lookups, 2)],
  ['CPU ms an exchange', ({ serverCpuMs }) => number(serverCpuMs, 2)],
  ['instances of 1 vCPU', ({ instances }) => number(instances)],
  ['connections', ({ postgres }) => number(postgres.connections)],
  ['events an exchange', ({ events }) => number(events, 2)],
  ['platform tokens', ({ tokens }) => number(tokens)],
  ['status lists', ({ statusLists }) => number(statusLists)],
  ['vCPU to build them', ({ listVcpu }) => number(listVcpu, 2)],
  ['PostgreSQL vCPU', ({ postgres }) => number(postgres.vcpu)],
  ['PostgreSQL RAM GB', ({ postgres }) => number(postgres.ramGb)],
  ['PostgreSQL storage GB', ({ postgres }) => number(postgres.storageGb)],
  ['of it events', ({ postgres }) => number(postgres.eventsGb)],
  ['WAL MB/s, mean', ({ postgres }) => number(postgres.walMbPerSecond, 2)],
  ['WAL MB/s, peak', ({ walMbPerSecondPeak }) => number(walMbPerSecondPeak, 2)],
  ['primaries', (one) => number(primariesFor(one))],
  ...[0, 1, 2].map((index): [string, (one: Plan) => string] => [
    index === 0 ? 'short on one primary: first' : `  then (${index})`,
    ({ pressure }) => `${pressure[index]?.what} ${number(pressure[index]?.ratio ?? 0, 2)}`,
  ]),
  ['$ instances', ({ cost }) => dollars(cost.instances)],
  ['$ PostgreSQL, with standby', ({ cost }) => dollars(cost.postgres)],
  ['$ its storage', ({ cost }) => dollars(cost.storage)],
  ['$ backups and WAL', ({ cost }) => dollars(cost.backups)],
  ['$ status lists by CDN', ({ cost }) => dollars(cost.cdn)],
  ['$ a month', ({ cost }) => dollars(cost.total)],
];

function print(title: string, given: Inputs): string {
  const plans = sizes.map((size) => plan(size, given));
  const names = plans.map(({ exchanges }) => `${number(exchanges / 1e6)} M`);
  const rows = lines.map(([label, cell]) => [label, ...plans.map(cell)]);
  const shared = plans.map((one) => {
    const parts = primariesFor(one);
    return dollars(parts * plan(one.exchanges / parts, given).cost.total);
  });
  rows.push(['$ a month, a cell each primary', ...shared]);
  return `\n${title}\n${table(['', ...names], rows)}\n`;
}

const { values } = parseArgs({
  options: { measure: { type: 'boolean', default: false } },
});
if (values.measure) {
  await run(async (cleanup) => {
    const measured = await measureScaling(cleanup);
    process.stdout.write(`${JSON.stringify(measured, null, 2)}\n`);
    return true;
  });
}
process.stdout.write(`CPU and look-ups by ${inputs.levelsSource}\n`);
for (const cachingShare of [0.5, 1, 0]) {
  const traffic = { ...inputs.traffic, cachingShare };
  const title = `exchanges a month, ${cachingShare * 100} % of them by clients that keep their JWT`;
  process.stdout.write(print(title, { ...inputs, traffic }));
}
