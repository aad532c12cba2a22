import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose';
import { createDatabase, type Database } from '../server/storage/database.ts';
import { checkAgainst } from './check.ts';
import { fill } from './fixture.ts';
import { drive } from './load.ts';
import { positiveNumber } from './options.ts';
import { recordedFile, writeRecorded } from './record.ts';
import { createReport, type Measurement, type Name, names, print, type Report } from './report.ts';
import { clientCredentialsRequest, exchangeForm, exchangeRequest } from './requests.ts';
import {
  type Cleanup,
  createEnvironment,
  issuer,
  type Running,
  run,
  say,
  startCandidate,
  startDatabase,
} from './stage.ts';

/** The token exchange of our server beside three others, in one alternating run. See docs/performance.md. */

const keptTokens = 5_000;
const rampMs = 1_000;
// Longer than the product's write-behind interval: what it still writes must not meet the next candidate's round.
const settleMs = 1_500;

interface Options {
  readonly seconds: number;
  /** Answers of each candidate before each round, at least: V8 compiles by how often, not by how long. */
  readonly warmUp: number;
  readonly rounds: number;
  readonly connections: readonly number[];
  readonly tokens: number;
  readonly json: boolean;
  /** Fails where a ratio is worse than in this report by more than noise. */
  readonly against: string | URL | undefined;
  /** Records the figures and draws them. */
  readonly record: boolean;
  /** Directory for CPU profiles, one file a process. */
  readonly profile: string | undefined;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '3' },
      rounds: { type: 'string', default: '5' },
      'warm-up': { type: 'string', default: '30000' },
      connections: { type: 'string', default: '1,16,64,256' },
      tokens: { type: 'string', default: '100000' },
      json: { type: 'boolean', default: false },
      check: { type: 'boolean', default: false },
      against: { type: 'string' },
      record: { type: 'boolean', default: false },
      profile: { type: 'string' },
    },
  });
  const against = values.against ?? (values.check ? recordedFile : undefined);
  const rounds = positiveNumber('rounds', values.rounds);
  if (against && rounds < 2)
    throw new Error('one round does not show how far rounds lie apart: --rounds 2 or more');
  return {
    seconds: positiveNumber('seconds', values.seconds),
    rounds,
    warmUp: positiveNumber('warm-up', values['warm-up']),
    connections: values.connections.split(',').map((value) => positiveNumber('connections', value)),
    tokens: positiveNumber('tokens', values.tokens),
    json: values.json,
    against,
    record: values.record,
    profile: values.profile,
  };
}

async function readReport(file: string | URL): Promise<Report> {
  const report = JSON.parse(await readFile(file, 'utf8'));
  if (!(report.comparisons?.length > 0)) throw new Error(`${file} is no report with comparisons`);
  if (!(report.conditions?.rounds > 1)) throw new Error(`${file} is of one round: two at least`);
  return report;
}

interface Stage {
  readonly running: readonly Running<Name>[];
  readonly requestsTo: Record<Name, readonly Buffer[]>;
  readonly statements: () => Promise<Statements>;
}

async function main(options: Options, cleanup: Cleanup): Promise<boolean> {
  // Read first: a file that is none must not cost a quarter of an hour.
  const recorded = options.against && (await readReport(options.against));
  const { directory, connectionString } = await startDatabase(cleanup);
  const database = createDatabase({ connectionString, limited: false });
  cleanup.add(() => database.close());
  const poolSize = database.lookups.maximum;
  say(`filling ${options.tokens} platform tokens`);
  const tokens = await fill(database, options.tokens, keptTokens);
  const { rows } = await database.knex.raw('SHOW server_version');

  const environment = { ...createEnvironment(connectionString, directory), POOL_SIZE: String(poolSize) };
  const exchanges = tokens.map((token) => exchangeRequest(token));
  const requestsTo = {
    noop: exchanges,
    'hand-written': exchanges,
    'client-credentials': [clientCredentialsRequest()],
    product: exchanges,
  };
  const measurements: Measurement[] = [];
  for (let round = 0; round < options.rounds; round += 1) {
    // New processes: two of one program differ by more than two rounds of one process.
    const running: Running<Name>[] = [];
    for (const name of names)
      running.push(await startCandidate(name, environment, directory, cleanup, options.profile));
    if (round === 0) await compareAnswers(running, String(tokens[0]));
    for (const { name, port } of running) {
      const load = { port, connections: 64, requests: requestsTo[name], rampMs: 0, durationMs: 1_000 };
      for (let warm = 0; warm < options.warmUp; ) warm += (await drive(load)).answers;
    }
    const stage = { running, requestsTo, statements: () => countStatements(database) };
    measurements.push(...(await measureRound(stage, round, options)));
    for (const candidate of running) await candidate.stop();
  }

  const report = createReport(measurements, {
    cores: availableParallelism(),
    cpu: cpus()[0]?.model ?? 'unknown',
    node: process.version,
    postgres: String(rows[0]?.server_version),
    poolSize,
    seconds: options.seconds,
    rounds: options.rounds,
    tokens: options.tokens,
  });
  process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : print(report));
  if (options.record) await writeRecorded(report);
  if (!recorded) return report.met;
  const { worse, compared } = checkAgainst(report, recorded);
  for (const line of worse) say(`WORSE   ${line}`);
  say(`${worse.length} of ${compared} ratios are worse than in ${options.against}`);
  return compared > 0 && worse.length === 0;
}

/** At each number of connections each candidate at its most, then at half of that. */
async function measureRound(
  stage: Stage,
  round: number,
  { rounds, seconds, connections: levels }: Options,
): Promise<Measurement[]> {
  const measurements: Measurement[] = [];
  for (const [index, connections] of levels.entries()) {
    // Back and forth, so that what drifts with time drifts for all.
    for (const candidate of (round + index) % 2 ? stage.running.toReversed() : stage.running) {
      const measured = await measure(stage, candidate, connections, seconds * 1000);
      measurements.push({ ...measured, round });
      const { rate, cpuMs } = measured;
      say(
        `round ${round + 1}/${rounds}, ${connections} connections  ${candidate.name}  ${rate.toFixed(0)} requests/s, ${cpuMs.toFixed(3)} CPU ms`,
      );
    }
  }
  return measurements;
}

async function measure(
  { requestsTo, statements }: Stage,
  candidate: Running<Name>,
  connections: number,
  durationMs: number,
): Promise<Omit<Measurement, 'round'>> {
  const load = {
    port: candidate.port,
    connections,
    requests: requestsTo[candidate.name],
    rampMs,
    durationMs,
  };
  const before = { ...(await candidate.sample()), ...(await statements()), load: process.cpuUsage() };
  const most = await drive(load);
  const { user, system } = process.cpuUsage(before.load);
  await new Promise((resolve) => setTimeout(resolve, settleMs));
  const after = { ...(await candidate.sample()), ...(await statements()) };
  const half = await drive({ ...load, rate: most.rate / 2 });
  await new Promise((resolve) => setTimeout(resolve, settleMs));
  const perRequest = (key: 'cpuMs' | 'lookups' | 'statements') => (after[key] - before[key]) / most.answers;
  return {
    name: candidate.name,
    connections,
    rate: most.rate,
    p50: most.p50,
    p99: most.p99,
    halfP50: half.p50,
    halfP99: half.p99,
    cpuMs: perRequest('cpuMs'),
    loadCpuMs: (user + system) / 1000 / most.answers,
    lookups: perRequest('lookups'),
    statements: perRequest('statements'),
    rssMax: after.rssMax,
  };
}

interface Statements {
  /** SELECTs of platform tokens by digest. */
  readonly lookups: number;
  /** All, BEGIN and COMMIT included. */
  readonly statements: number;
}

async function countStatements({ knex }: Database): Promise<Statements> {
  const { rows } = await knex.raw(
    `SELECT coalesce(sum(calls), 0)::float8 AS statements,
       coalesce(sum(calls) FILTER (WHERE query LIKE '%WHERE t.digest =%'), 0)::float8 AS lookups
     FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'`,
  );
  return rows[0];
}

/** Both servers must do the same job: verifiable JWTs with the same claims, in answers with the same members. */
async function compareAnswers(running: readonly Running<Name>[], token: string): Promise<void> {
  const shapes: string[] = [];
  for (const { name, port } of running) {
    if (name !== 'hand-written' && name !== 'product') continue;
    const url = `http://127.0.0.1:${port}`;
    const response = await fetch(`${url}/oauth/token`, { method: 'POST', body: exchangeForm(token) });
    const answer = (await response.json()) as Record<string, unknown>;
    if (response.status !== 200) throw new Error(`${name}: ${response.status} ${JSON.stringify(answer)}`);
    const jwks = (await (await fetch(`${url}/oauth/jwks`)).json()) as JSONWebKeySet;
    const { payload, protectedHeader } = await jwtVerify(
      String(answer.access_token),
      createLocalJWKSet(jwks),
      { issuer, algorithms: ['ES256'] },
    );
    const { iat = 0, exp = 0, jti, ...claims } = payload;
    const { access_token, ...rest } = answer;
    shapes.push(
      JSON.stringify([
        Object.entries({ ...claims, lifetime: exp - iat, jti: typeof jti }).sort(),
        Object.keys(protectedHeader).sort(),
        Object.entries(rest).sort(),
      ]),
    );
  }
  if (new Set(shapes).size !== 1) throw new Error(`the servers answer differently:\n${shapes.join('\n')}`);
}

await run((cleanup) => main(readOptions(), cleanup));
