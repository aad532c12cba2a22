import { fork } from 'node:child_process';
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { createPlatformToken, digestPlatformToken } from '../server/domain/platform-token.ts';
import { createDatabase, type Database } from '../server/storage/database.ts';
import { fill } from './fixture.ts';
import { drive, type LoadResult } from './load.ts';
import { positiveNumber } from './options.ts';
import { exchangeRequest } from './requests.ts';
import {
  type Cleanup,
  createEnvironment,
  type Running,
  run,
  say,
  startCandidate,
  startDatabase,
} from './stage.ts';
import { median, table } from './statistics.ts';
import type { StormOrder, StormReport } from './storm-clients.ts';

/**
 * Ten thousand dead tokens, retried as fast as clients can from many addresses, while others exchange good ones: some from
 * addresses of their own, some from behind those of the storm, many of which the server has not seen before.
 */

const targets = { success: 1, p99: 3 };
const deadCount = 10_000;
const goodCount = 5_000;
const goodConnections = 16;
const warmUpMs = 10_000;

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly addresses: number;
  readonly connections: number;
  readonly rate: number;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '30' },
      addresses: { type: 'string', default: '100' },
      connections: { type: 'string', default: '32' },
      rate: { type: 'string', default: '200' },
    },
  });
  return {
    rounds: positiveNumber('rounds', values.rounds),
    seconds: positiveNumber('seconds', values.seconds),
    addresses: positiveNumber('addresses', values.addresses),
    connections: positiveNumber('connections', values.connections),
    rate: positiveNumber('rate', values.rate),
  };
}

interface Scene {
  readonly options: Options;
  readonly database: Database;
  /** Whole requests of good clients. */
  readonly good: readonly Buffer[];
  readonly storm: StormOrder['presented'];
  readonly start: () => Promise<Running<'product'>>;
  readonly cleanup: Cleanup;
}

async function main(cleanup: Cleanup): Promise<boolean> {
  const options = readOptions();
  const { directory, connectionString } = await startDatabase(cleanup);
  const database = createDatabase({ connectionString, limited: false });
  cleanup.add(() => database.close());
  const kept = await fill(database, 100_000, goodCount + (deadCount * 2) / 3);
  const dead = await makeDead(database, kept.slice(goodCount));
  const stormAddress = (n: number) =>
    `198.18.${(n % options.addresses) >> 8}.${(n % options.addresses) & 255}`;
  const good = kept
    .slice(0, goodCount)
    .map((token, n) => exchangeRequest(token, n % 2 ? stormAddress(n) : `203.0.113.${n & 255}`));
  const storm = dead.map((token, n) => [token, stormAddress(n)] as const);
  const environment = { ...createEnvironment(connectionString, directory), TRUST_PROXY: 'true' };
  const start = () => startCandidate('product', environment, directory, cleanup);
  const scene = { options, database, good, storm, start, cleanup };
  const rounds: Round[] = [];
  for (let round = 1; round <= options.rounds; round += 1) {
    say(`round ${round} of ${options.rounds}`);
    rounds.push({ calm: await measure(scene, false), stormy: await measure(scene, true) });
  }
  return report(options, rounds);
}

/** A third unknown, a third revoked, a third expired. */
async function makeDead({ knex }: Database, tokens: readonly string[]): Promise<string[]> {
  const half = tokens.length / 2;
  const digests = tokens.map((token) => digestPlatformToken(token).toString('hex'));
  const chosen = `digest = ANY (SELECT decode(d, 'hex') FROM unnest(?::text[]) AS d)`;
  await knex.raw(`UPDATE platform_tokens SET revoked_at = now(), revoked_by = 'bench' WHERE ${chosen}`, [
    digests.slice(0, half),
  ]);
  await knex.raw(
    `UPDATE platform_tokens SET created_at = created_at - interval '800 days',
       expires_at = expires_at - interval '800 days' WHERE ${chosen}`,
    [digests.slice(half)],
  );
  await knex.raw('VACUUM ANALYZE platform_tokens');
  const unknown = Array.from({ length: deadCount - tokens.length }, () => createPlatformToken('ptk').token);
  return [...tokens, ...unknown];
}

async function rage(order: StormOrder, cleanup: Cleanup): Promise<StormReport> {
  const child = fork(new URL('./storm-clients.ts', import.meta.url));
  cleanup.add(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill();
  });
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`the storm ended with ${code}`);
  });
  const answered = once(child, 'message').then(([answer]) => answer as StormReport);
  child.send(order);
  ended.catch(() => {});
  return Promise.race([answered, ended]);
}

interface Measured extends LoadResult {
  readonly cpuMs: number;
  readonly rss: number;
  readonly lookups: number;
  readonly counters: number;
  readonly statements: number;
  readonly raging: StormReport | undefined;
}

interface Round {
  readonly calm: Measured;
  readonly stormy: Measured;
}

/** In a process of its own, which knows nothing yet of tokens and addresses. */
async function measure(scene: Scene, stormy: boolean): Promise<Measured> {
  const { database, options, good, storm, cleanup } = scene;
  const { knex } = database;
  await knex('rate_limits').delete();
  const product = await scene.start();
  const { port } = product;
  const exchangeGood = (durationMs: number, requests = good) => {
    const { rate } = options;
    return drive({
      port,
      connections: goodConnections,
      requests,
      rampMs: 0,
      durationMs,
      rate,
      anyStatus: true,
    });
  };
  // A tenth of them: the others are new to the server when they come.
  await exchangeGood(warmUpMs, good.slice(0, goodCount / 10));
  await knex.raw('SELECT pg_stat_statements_reset()');
  const before = await product.sample();
  const durationMs = options.seconds * 1_000;
  const raging =
    stormy &&
    rage(
      { port, connections: options.connections, durationMs: durationMs + 1_000, presented: storm },
      cleanup,
    );
  const result = await exchangeGood(durationMs);
  const raged = raging ? await raging : undefined;
  const { cpuMs, rss } = await product.sample();
  const { rows } = await knex.raw(
    `SELECT coalesce(sum(calls), 0)::float8 AS statements,
       coalesce(sum(calls) FILTER (WHERE query LIKE '%WHERE t.digest =%'), 0)::float8 AS lookups,
       coalesce(sum(calls) FILTER (WHERE query LIKE '%INTO rate_limits%'), 0)::float8 AS counters
     FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'`,
  );
  await product.stop();
  return { ...result, ...rows[0], cpuMs: cpuMs - before.cpuMs, rss, raging: raged };
}

const percent = (value: number) => `${(value * 100).toFixed(2)} %`;
const successOf = ({ statuses, answers }: LoadResult) => (statuses[200] ?? 0) / answers;
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

function report({ seconds, rate }: Options, rounds: readonly Round[]): boolean {
  const row = (name: string, measured: Measured) => [
    name,
    String(measured.answers),
    percent(successOf(measured)),
    measured.p50.toFixed(2),
    measured.p99.toFixed(2),
    (measured.raging?.rate ?? 0).toFixed(0),
    String(measured.lookups),
    String(measured.counters),
    String(measured.statements),
    (measured.cpuMs / (seconds * 10)).toFixed(0),
    (measured.rss / 1e6).toFixed(0),
  ];
  const columns = ['', 'good', 'success', 'p50 ms', 'p99 ms', 'storm/s'].concat([
    'look-ups',
    'counters',
    'statements',
    'CPU %',
    'MB',
  ]);
  const all = rounds.flatMap(({ calm, stormy }) => [calm, stormy]);
  const success = Math.min(...all.map(successOf));
  const p99 = (of: keyof Round) => median(rounds.map((round) => round[of].p99));
  const ratio = p99('stormy') / p99('calm');
  const statuses: Record<string, number> = {};
  for (const { stormy } of rounds)
    for (const [status, count] of Object.entries(stormy.raging?.statuses ?? {}))
      statuses[status] = (statuses[status] ?? 0) + count;
  const requests = sum(Object.values(statuses));
  const more = sum(rounds.map(({ calm, stormy }) => stormy.statements - calm.statements));
  const verdict = (met: boolean) => (met ? 'met' : 'MISSED');
  const [whole, quick] = [success >= targets.success, ratio <= targets.p99];
  process.stdout.write(
    [
      '',
      table(
        columns,
        rounds.flatMap(({ calm, stormy }) => [row('without', calm), row('with', stormy)]),
      ),
      '',
      `storm: ${requests} requests, answered ${JSON.stringify(statuses)}`,
      `statements more than without, for each of them: ${(more / requests).toFixed(4)}`,
      `good clients, ${rate}/s: success ${percent(success)}  (target 100 %: ${verdict(whole)})`,
      `median p99 with to without: ${ratio.toFixed(2)}  (target at most ${targets.p99}: ${verdict(quick)})`,
      '',
    ].join('\n'),
  );
  return whole && quick;
}

await run(main);
