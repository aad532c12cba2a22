import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose';
import packageJson from '../package.json' with { type: 'json' };
import { createDatabase } from '../server/storage/database.ts';
import { startEmbedded } from '../server/storage/embedded.ts';
import { migrate } from '../server/storage/migrations.ts';
import { fill } from './fixture.ts';
import { drive, type LoadResult } from './load.ts';
import type { CandidateMessage, Sample } from './servers/candidate.ts';

/** The token exchange of our server against a hand-written one, in one alternating run. See docs/performance.md. */

const candidates = ['noop', 'hand-written', 'product'] as const;
type Name = (typeof candidates)[number];

const targets = { throughputRatio: 0.7, rssMb: 250 };
const issuer = 'https://issuer.example.com';
const keptTokens = 5_000;
const rampMs = 1_000;
// Longer than the product's write-behind interval: what it still writes must not meet the next candidate's round.
const settleMs = 1_500;
const startLimitMs = 30_000;
const stopLimitMs = 10_000;
/** Node's flags of `npm start`: what is measured is what is run. */
const productFlags = packageJson.scripts.start.split(' ').filter((word) => word.startsWith('--'));

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

interface Running {
  readonly name: Name;
  readonly port: number;
  sample(): Promise<Sample>;
  stop(): Promise<void>;
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

/** What has been started, to be ended in reverse order however the run ends. */
class Cleanup {
  readonly #steps: (() => Promise<unknown>)[] = [];
  #running: Promise<void> | undefined;

  add(step: () => Promise<unknown>): void {
    this.#steps.push(step);
  }

  run(): Promise<void> {
    this.#running ??= this.#runAll();
    return this.#running;
  }

  async #runAll(): Promise<void> {
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      await step().catch((error) => say(`clean-up: ${error}`));
    }
  }
}

async function main(options: Options, cleanup: Cleanup): Promise<boolean> {
  const directory = await mkdtemp(join(tmpdir(), 'platform-tokens-bench-'));
  cleanup.add(() => rm(directory, { recursive: true, force: true }));
  say('starting PostgreSQL with its default durability');
  const starting = startEmbedded({ dataDir: join(directory, 'data') });
  cleanup.add(() =>
    starting.then(
      (started) => started.stop(),
      () => {},
    ),
  );
  const embedded = await starting;
  const database = createDatabase({ connectionString: embedded.connectionString });
  // The filling may take longer than a request may.
  const filler = createDatabase({ connectionString: embedded.connectionString, limited: false });
  const poolSize = database.lookups.options.max;
  await migrate(filler.knex);
  say(`filling ${options.tokens} platform tokens`);
  const tokens = await fill(filler, options.tokens, keptTokens);
  const { rows } = await filler.knex.raw('SHOW server_version');
  await filler.close();
  await database.close();

  const environment = {
    NODE_ENV: 'production',
    HOST: '127.0.0.1',
    PORT: '0',
    ISSUER: issuer,
    DATABASE_URL: embedded.connectionString,
    POOL_SIZE: String(poolSize),
    KEY_ENCRYPTION_KEY: randomBytes(32).toString('base64url'),
    DATA_DIR: join(directory, 'server'),
  };
  const running: Running[] = [];
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

async function startCandidate(
  name: Name,
  env: NodeJS.ProcessEnv,
  directory: string,
  cleanup: Cleanup,
  profile: string | undefined,
): Promise<Running> {
  const log = await open(join(directory, `${name}.log`), 'w');
  const { PATH, TMPDIR, NODE_OPTIONS } = process.env;
  const child = fork(new URL(`./servers/${name}.ts`, import.meta.url), {
    // Nothing else from outside: a LOG_LEVEL of the shell must not change what is measured.
    env: { PATH, TMPDIR, NODE_OPTIONS, ...env },
    execArgv: [
      ...(name === 'product' ? productFlags : []),
      ...(profile ? ['--cpu-prof', `--cpu-prof-dir=${profile}`] : []),
    ],
    stdio: ['ignore', log.fd, 'inherit', 'ipc'],
  });
  await log.close();
  const stop = () => stopChild(child);
  cleanup.add(stop);
  const ready = await reply(child, 'ready', startLimitMs);
  return {
    name,
    port: ready.port,
    async sample() {
      const answer = reply(child, 'sample', startLimitMs);
      child.send('sample');
      return answer;
    },
    stop,
  };
}

/** The next message of this type. */
function reply<T extends CandidateMessage['type']>(
  child: ChildProcess,
  type: T,
  limitMs: number,
): Promise<CandidateMessage & { type: T }> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => {
      clearTimeout(timer);
      child.off('message', onMessage).off('exit', onExit);
      act();
    };
    const onMessage = (message: unknown) => {
      const received = message as CandidateMessage;
      if (received.type === type) settle(() => resolve(received as CandidateMessage & { type: T }));
    };
    const onExit = (code: number | null) => settle(() => reject(new Error(`a candidate ended: ${code}`)));
    const timer = setTimeout(
      () => settle(() => reject(new Error(`a candidate does not answer: ${type}`))),
      limitMs,
    );
    child.on('message', onMessage).on('exit', onExit);
  });
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const limit = setTimeout(() => child.kill('SIGKILL'), stopLimitMs);
  if (child.connected) child.disconnect();
  await exited;
  clearTimeout(limit);
}

/** Both servers must do the same job: verifiable JWTs with the same claims, in answers with the same members. */
async function compareAnswers(running: readonly Running[], token: string): Promise<void> {
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

async function measure(candidate: Running, load: Omit<Parameters<typeof drive>[0], 'port'>): Promise<Round> {
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
  const widths = columns.map((column, index) =>
    Math.max(column.length, ...rows.map((row) => String(row[index]).length)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, index) => (index ? cell.padStart(widths[index] ?? 0) : cell.padEnd(widths[index] ?? 0)))
      .join('  ');
  return [
    '',
    `throughput, product / hand-written  ${ratios.throughput.toFixed(2)}  (target at least ${targets.throughputRatio}: ${verdict(throughputMet)}; rounds ${ratios.throughputLowestRound} to ${ratios.throughputHighestRound})`,
    `CPU a request, product / hand-written  ${ratios.cpuPerRequest.toFixed(2)}`,
    `product RSS max  ${productRssMaxMb} MB  (target under ${targets.rssMb}: ${verdict(rssMet)})`,
    '',
    line(columns),
    ...rows.map(line),
    '',
    `Medians of ${conditions.rounds} alternating rounds of ${conditions.seconds} s, ${conditions.connections} connections, ${conditions.tokens} platform tokens, look-up pool of ${conditions.poolSize}.`,
    `Node ${conditions.node}, PostgreSQL ${conditions.postgres}, ${conditions.cores} cores (${conditions.cpu}); load and database on the same cores (load: ${servers.map(({ loadCpuMsPerRequest }) => loadCpuMsPerRequest.toFixed(3)).join(', ')} CPU ms/request).`,
    '',
  ].join('\n');
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

const round = (value: number, digits: number) => Number(value.toFixed(digits));

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

const cleanup = new Cleanup();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void cleanup.run().finally(() => process.exit(1)));
}
let met = false;
try {
  met = await main(readOptions(), cleanup);
} catch (error) {
  say(error instanceof Error ? String(error.stack) : String(error));
} finally {
  await cleanup.run();
}
process.exit(met ? 0 : 1);
