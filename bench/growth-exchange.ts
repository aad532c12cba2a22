import { setTimeout } from 'node:timers/promises';
import { createPlatformToken } from '../server/domain/platform-token.ts';
import type { Database } from '../server/storage/database.ts';
import { startGrown } from './growth-fixture.ts';
import { drive } from './load.ts';
import { postgresCpu } from './postgres-cpu.ts';
import { exchangeRequest } from './requests.ts';
import { type Cleanup, createEnvironment, type Running, say, startCandidate } from './stage.ts';
import { median, printSpread, spreadOf, table } from './statistics.ts';

/**
 * Whole exchanges, the CPU of server and PostgreSQL together, on tables of each size: all of them are there side by side and are
 * loaded in turns, so that a ratio is of two rounds of the same minute, each by a new process, as two of one program differ for as long
 * as they run. Needs Linux: CPU is read from /proc.
 */

const levels = [1, 64];
const rounds = 9;
const durationMs = 3_000;
// Longer than the product's write-behind interval: its writes belong to their round.
const settleMs = 1_500;
/** As many in each table, so that events are summarized alike. */
const presented = 300;
const target = 1.15;

interface Stage {
  readonly size: number;
  readonly database: Database;
  readonly start: () => Promise<Running<'product'>>;
  readonly requests: readonly Buffer[];
}

interface Cost {
  readonly server: number;
  readonly postgres: number;
}

/** @returns whether an exchange on the largest table costs less than 15 % more than one on the smallest */
export async function measureExchanges(sizes: readonly number[], cleanup: Cleanup): Promise<boolean> {
  const stages: Stage[] = [];
  for (const size of sizes) stages.push(await createStage(size, cleanup));
  const costs = new Map(
    stages.map(({ size }) => [size, new Map(levels.map((level) => [level, [] as Cost[]]))]),
  );
  for (let round = 0; round < rounds; round += 1)
    for (const stage of round % 2 ? stages.toReversed() : stages) {
      const server = await stage.start();
      await load(server, stage, 64);
      for (const level of levels) {
        const cost = await measure(server, stage, level);
        costs.get(stage.size)?.get(level)?.push(cost);
        say(
          `round ${round + 1}/${rounds}, ${level} connections, ${stage.size} tokens: ${JSON.stringify(cost)}`,
        );
      }
      await server.stop();
    }
  const of = (size: number, level: number) => costs.get(size)?.get(level) as Cost[];
  const sum = ({ server, postgres }: Cost) => server + postgres;
  const [smallest, largest] = [sizes[0] as number, sizes.at(-1) as number];
  const growths = levels.map((level) => {
    const ratios = of(largest, level).map(
      (cost, round) => sum(cost) / sum(of(smallest, level)[round] as Cost),
    );
    return { level, ratio: spreadOf(ratios) };
  });
  const rows = sizes.flatMap((size) =>
    levels.map((level) => [
      `${size.toLocaleString('en')} tokens, ${level} connections`,
      ...[({ server }: Cost) => server, ({ postgres }: Cost) => postgres, sum].map((part) =>
        median(of(size, level).map(part)).toFixed(3),
      ),
    ]),
  );
  process.stdout.write(`${table(['CPU ms an exchange, medians', 'server', 'PostgreSQL', 'both'], rows)}\n\n`);
  for (const { level, ratio } of growths)
    process.stdout.write(
      `${ratio.median < target ? 'met   ' : 'MISSED'} ${level} connections, both, largest to smallest, under ${target}: ` +
        `${printSpread(ratio)}\n`,
    );
  return growths.every(({ ratio }) => ratio.median < target);
}

async function createStage(size: number, cleanup: Cleanup): Promise<Stage> {
  const tokens = Array.from({ length: presented }, () => createPlatformToken('ptk'));
  const digests = tokens.map(({ digest }) => digest);
  const { connectionString, directory, database } = await startGrown(size, cleanup, digests);
  const environment = createEnvironment(connectionString, directory);
  const start = () => startCandidate('product', environment, directory, cleanup);
  return { size, database, start, requests: tokens.map(({ token }) => exchangeRequest(token)) };
}

const load = ({ port }: Running<'product'>, { requests }: Stage, connections: number) =>
  drive({ port, connections, requests, rampMs: 0, durationMs });

async function measure(server: Running<'product'>, stage: Stage, connections: number): Promise<Cost> {
  const before = await read(server, stage);
  const { answers } = await load(server, stage, connections);
  await setTimeout(settleMs);
  const after = await read(server, stage);
  return {
    server: Number(((after.server - before.server) / answers).toFixed(4)),
    postgres: Number(((after.postgres - before.postgres) / answers).toFixed(4)),
  };
}

async function read(server: Running<'product'>, { database }: Stage): Promise<Cost> {
  const { lookup, write, background } = await postgresCpu(database);
  return { server: (await server.sample()).cpuMs, postgres: lookup + write + background };
}
