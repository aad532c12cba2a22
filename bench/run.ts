import { availableParallelism, cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose';
import { createDatabase } from '../server/storage/database.ts';
import { fill } from './fixture.ts';
import { drive, type LoadResult } from './load.ts';
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
import { median, table } from './statistics.ts';

/** The token exchange of our server against a hand-written one, in one alternating run. See docs/performance.md. */

const candidates = ['noop', 'hand-written', 'product'] as const;
type Name = (typeof candidates)[number];

const targets = { throughputRatio: 0.7, rssMb: 250 };
const keptTokens = 5_000;
const rampMs = 1_000;
// Longer than the product's write-behind interval: what it still writes must not meet the next candidate's round.
const settleMs = 1_500;

interface Options {
  readonly seconds: number;
  /** Seconds of load before the first round, for each candidate. */
  readonly warmUp: number;
  readonly rounds: number;
  readonly connections: number;
  readonly tokens: number;
  readonly json: boolean;
  /** Directory for CPU profiles, one file a process. */
  readonly profile: string | undefined;
}

interface Round extends LoadResult {
  /** Of the server process, all threads, background writes included; in ms. */
  readonly cpuPerRequest: number;
  /** Of this process, which makes the load; in ms. */
  readonly loadCpuPerRequest: number;
  readonly rssMax: number;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '5' },
      rounds: { type: 'string', default: '5' },
      'warm-up': { type: 'string', default: '8' },
      connections: { type: 'string', default: '16' },
      tokens: { type: 'string', default: '100000' },
      json: { type: 'boolean', default: false },
      profile: { type: 'string' },
    },
  });
  const number = (name: 'seconds' | 'rounds' | 'warm-up' | 'connections' | 'tokens') => {
    if (!/^[1-9]\d{0,6}$/.test(values[name])) throw new Error(`--${name} must be a positive whole number`);
    return Number(values[name]);
  };
  return {
    seconds: number('seconds'),
    rounds: number('rounds'),
    warmUp: number('warm-up'),
    connections: number('connections'),
    tokens: number('tokens'),
    json: values.json,
    profile: values.profile,
  };
}

async function main(options: Options, cleanup: Cleanup): Promise<boolean> {
  const { directory, connectionString } = await startDatabase(cleanup);
  const database = createDatabase({ connectionString });
  // The filling may take longer than a request may.
  const filler = createDatabase({ connectionString, limited: false });
  const poolSize = database.lookups.options.max;
  say(`filling ${options.tokens} platform tokens`);
  const tokens = await fill(filler, options.tokens, keptTokens);
  const { rows } = await filler.knex.raw('SHOW server_version');
  await filler.close();
  await database.close();

  const environment = { ...createEnvironment(connectionString, directory), POOL_SIZE: String(poolSize) };
  const running: Running<Name>[] = [];
  for (const name of candidates)
    running.push(await startCandidate(name, environment, directory, cleanup, options.profile));
  await compareAnswers(running, String(tokens[0]));

  const load = { connections: options.connections, requests: tokens.map(toRequest), rampMs };
  for (const candidate of running) {
    say(`warming up ${candidate.name}`);
    await measure(candidate, { ...load, durationMs: options.warmUp * 1000 });
  }
  const rounds = new Map<Name, Round[]>(candidates.map((name) => [name, []]));
  for (let round = 0; round < options.rounds; round += 1) {
    // Back and forth, so that what drifts with time drifts for all.
    for (const candidate of round % 2 ? running.toReversed() : running) {
      const result = await measure(candidate, { ...load, durationMs: options.seconds * 1000 });
      rounds.get(candidate.name)?.push(result);
      say(`round ${round + 1}/${options.rounds}  ${candidate.name}  ${result.rate.toFixed(0)} requests/s`);
    }
  }
  const report = createReport(options, rounds, { poolSize, postgres: String(rows[0]?.server_version) });
  process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : print(report));
  return report.met;
}

/** Both servers must do the same job: verifiable JWTs with the same claims, in answers with the same members. */
async function compareAnswers(running: readonly Running<Name>[], token: string): Promise<void> {
  const shapes: string[] = [];
  for (const { name, port } of running) {
    if (name === 'noop') continue;
    const url = `http://127.0.0.1:${port}`;
    const response = await fetch(`${url}/oauth/token`, { method: 'POST', body: toForm(token) });
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

function toForm(token: string): URLSearchParams {
  return new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token: token,
  });
}

function toRequest(token: string): Buffer {
  const body = toForm(token).toString();
  return Buffer.from(
    [
      'POST /oauth/token HTTP/1.1',
      'Host: issuer.example.com',
      'Content-Type: application/x-www-form-urlencoded',
      `Content-Length: ${Buffer.byteLength(body)}`,
      'User-Agent: bench',
      '',
      body,
    ].join('\r\n'),
  );
}

async function measure(
  candidate: Running<Name>,
  load: Omit<Parameters<typeof drive>[0], 'port'>,
): Promise<Round> {
  const before = await candidate.sample();
  const loadBefore = process.cpuUsage();
  const result = await drive({ ...load, port: candidate.port });
  const { user, system } = process.cpuUsage(loadBefore);
  await new Promise((resolve) => setTimeout(resolve, settleMs));
  const after = await candidate.sample();
  return {
    ...result,
    cpuPerRequest: (after.cpuMs - before.cpuMs) / result.answers,
    loadCpuPerRequest: (user + system) / 1000 / result.answers,
    rssMax: after.rssMax,
  };
}

type Report = ReturnType<typeof createReport>;

function createReport(
  options: Options,
  rounds: ReadonlyMap<Name, readonly Round[]>,
  { poolSize, postgres }: { poolSize: number; postgres: string },
) {
  const of = (name: Name) => rounds.get(name) ?? [];
  const medianOf = (name: Name, key: keyof Round) => median(of(name).map((round) => round[key]));
  const servers = candidates.map((name) => ({
    name,
    requestsPerSecond: round(medianOf(name, 'rate'), 0),
    cpuMsPerRequest: round(medianOf(name, 'cpuPerRequest'), 3),
    /** How much of one core the server took, while it was loaded. */
    cores: round((medianOf(name, 'cpuPerRequest') * medianOf(name, 'rate')) / 1000, 2),
    p50Ms: round(medianOf(name, 'p50'), 2),
    p99Ms: round(medianOf(name, 'p99'), 2),
    rssMaxMb: round(Math.max(...of(name).map(({ rssMax }) => rssMax)) / 1e6, 0),
    loadCpuMsPerRequest: round(medianOf(name, 'loadCpuPerRequest'), 3),
    rounds: of(name).map(({ rate, cpuPerRequest }) => ({
      requestsPerSecond: round(rate, 0),
      cpuMsPerRequest: round(cpuPerRequest, 3),
    })),
  }));
  const pairs = of('product').map(
    ({ rate }, index) => rate / (of('hand-written')[index]?.rate ?? Number.NaN),
  );
  const ratios = {
    throughput: round(medianOf('product', 'rate') / medianOf('hand-written', 'rate'), 2),
    throughputLowestRound: round(Math.min(...pairs), 2),
    throughputHighestRound: round(Math.max(...pairs), 2),
    cpuPerRequest: round(medianOf('product', 'cpuPerRequest') / medianOf('hand-written', 'cpuPerRequest'), 2),
  };
  const rssMb = servers.find(({ name }) => name === 'product')?.rssMaxMb ?? Number.NaN;
  const throughputMet =
    medianOf('product', 'rate') / medianOf('hand-written', 'rate') >= targets.throughputRatio;
  const rssMet = rssMb < targets.rssMb;
  return {
    met: throughputMet && rssMet,
    throughputMet,
    rssMet,
    targets,
    ratios,
    productRssMaxMb: rssMb,
    servers,
    conditions: {
      cores: availableParallelism(),
      cpu: cpus()[0]?.model ?? 'unknown',
      node: process.version,
      postgres,
      poolSize,
      seconds: options.seconds,
      rounds: options.rounds,
      warmUp: options.warmUp,
      connections: options.connections,
      tokens: options.tokens,
    },
  };
}

function print({ ratios, servers, conditions, productRssMaxMb, throughputMet, rssMet }: Report): string {
  const verdict = (met: boolean) => (met ? 'met' : 'MISSED');
  const columns = ['server', 'requests/s', 'CPU ms/request', 'cores', 'p50 ms', 'p99 ms', 'RSS max MB'];
  const rows = servers.map((server) => [
    server.name,
    String(server.requestsPerSecond),
    server.cpuMsPerRequest.toFixed(3),
    server.cores.toFixed(2),
    server.p50Ms.toFixed(2),
    server.p99Ms.toFixed(2),
    String(server.rssMaxMb),
  ]);
  return [
    '',
    `throughput, product / hand-written  ${ratios.throughput.toFixed(2)}  (target at least ${targets.throughputRatio}: ${verdict(throughputMet)}; rounds ${ratios.throughputLowestRound} to ${ratios.throughputHighestRound})`,
    `CPU a request, product / hand-written  ${ratios.cpuPerRequest.toFixed(2)}`,
    `product RSS max  ${productRssMaxMb} MB  (target under ${targets.rssMb}: ${verdict(rssMet)})`,
    '',
    table(columns, rows),
    '',
    `Medians of ${conditions.rounds} alternating rounds of ${conditions.seconds} s, ${conditions.connections} connections, ${conditions.tokens} platform tokens, look-up pool of ${conditions.poolSize}.`,
    `Node ${conditions.node}, PostgreSQL ${conditions.postgres}, ${conditions.cores} cores (${conditions.cpu}); load and database on the same cores (load: ${servers.map(({ loadCpuMsPerRequest }) => loadCpuMsPerRequest.toFixed(3)).join(', ')} CPU ms/request).`,
    '',
  ].join('\n');
}

const round = (value: number, digits: number) => Number(value.toFixed(digits));

await run((cleanup) => main(readOptions(), cleanup));
