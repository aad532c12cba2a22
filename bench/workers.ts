import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createDatabase } from '../server/storage/database.ts';
import { startEnvironment, startFlags } from '../test/support/start-command.ts';
import { fill } from './fixture.ts';
import { drive } from './load.ts';
import { positiveNumber } from './options.ts';
import { exchangeRequest } from './requests.ts';
import { type Cleanup, createEnvironment, run, say, startDatabase } from './stage.ts';
import { median, printSpread, type Spread, spreadOf, table } from './statistics.ts';

/** The exchange with one process and with two workers, in alternating rounds. Needs Linux: CPU is read from /proc. */

const counts = [1, 2] as const;
/** To each worker: look-ups of one moment share a query, so a worker with fewer connections has more queries to an exchange. */
const connectionsEach = 32;
const rampMs = 1_000;
const settleMs = 1_500;
const startLimitMs = 30_000;
/** Of the CPU that an exchange costs one process. */
const target = 1.1;
const tickMs = 10;

interface Server {
  readonly workers: number;
  readonly port: number;
  /** User and system time of all its processes, in ms. */
  cpuMs(): Promise<number>;
  stop(): Promise<void>;
}

interface Round {
  readonly workers: number;
  readonly saturated: Load;
  readonly paced: Load;
}

interface Load {
  readonly rate: number;
  readonly cpu: number;
  readonly p50: number;
  readonly p99: number;
  readonly answers: number;
}

async function main(cleanup: Cleanup): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '5' },
      'warm-up': { type: 'string', default: '30000' },
    },
  });
  const [rounds, seconds] = [
    positiveNumber('rounds', values.rounds),
    positiveNumber('seconds', values.seconds),
  ];
  const { directory, connectionString } = await startDatabase(cleanup);
  const database = createDatabase({ connectionString, limited: false });
  const tokens = await fill(database, 20_000, 5_000);
  await database.close();
  const environment = createEnvironment(connectionString, directory);
  const requests = tokens.map((token) => exchangeRequest(token));
  const warmUp = positiveNumber('warm-up', values['warm-up']);

  async function load(server: Server, durationMs: number, rate?: number): Promise<Load> {
    const before = await server.cpuMs();
    const { port } = server;
    const connections = connectionsEach * server.workers;
    const result = await drive({ port, connections, requests, rampMs, durationMs, rate });
    // With what it still writes.
    await setTimeout(settleMs);
    const cpu = ((await server.cpuMs()) - before) / result.answers;
    return { cpu, rate: result.rate, p50: result.p50, p99: result.p99, answers: result.answers };
  }

  const measured: Round[] = [];
  let half: number | undefined;
  for (let round = 0; round < rounds; round += 1) {
    // New processes: two of one program differ by more than two rounds of one process.
    for (const workers of round % 2 ? counts.toReversed() : counts) {
      const server = await startServer(workers, environment, directory, cleanup);
      // Each worker gets its share of the load, and must be as warm as the one process.
      for (let warm = 0; warm < warmUp * workers; ) warm += (await load(server, 5_000)).answers;
      const saturated = await load(server, seconds * 1000);
      half ??= Math.round(saturated.rate / 2);
      const paced = await load(server, seconds * 1000, half);
      measured.push({ workers, saturated, paced });
      say(
        `round ${round + 1}/${rounds}, ${workers} workers: ${saturated.cpu.toFixed(3)} and ${paced.cpu.toFixed(3)} CPU ms`,
      );
      await server.stop();
    }
  }
  process.stdout.write(
    `${availableParallelism()} cores, shared with load and database; ${connectionsEach} connections to each worker; medians of ${rounds} rounds of ${seconds} s\n`,
  );
  const ratios = [
    print('as many as it can', measured, 'saturated'),
    print(`at ${half} a second`, measured, 'paced'),
  ];
  for (const ratio of ratios)
    process.stdout.write(
      `${ratio.median <= target ? 'met   ' : 'MISSED'} CPU an exchange, two workers to one process, at most ${target}: ` +
        `${printSpread(ratio)}\n`,
    );
  return ratios.every(({ median }) => median <= target);
}

/** @returns the CPU of an exchange with two workers, to that of one process in the same round */
function print(title: string, measured: readonly Round[], load: 'saturated' | 'paced'): Spread {
  const of = (workers: number, key: keyof Load) =>
    measured.filter((round) => round.workers === workers).map((round) => round[load][key]);
  const rows = counts.map((workers) => [
    String(workers),
    median(of(workers, 'rate')).toFixed(0),
    median(of(workers, 'cpu')).toFixed(3),
    median(of(workers, 'p50')).toFixed(2),
    median(of(workers, 'p99')).toFixed(2),
  ]);
  const heads = ['workers', 'exchanges/s', 'CPU ms/exchange', 'p50 ms', 'p99 ms'];
  process.stdout.write(`\n${title}\n${table(heads, rows)}\n\n`);
  const one = of(1, 'cpu');
  const ratios = of(2, 'cpu').map((cpu, round) => cpu / (one[round] as number));
  return spreadOf(ratios);
}

/** The server as `npm start` runs it. */
async function startServer(
  workers: number,
  environment: NodeJS.ProcessEnv,
  directory: string,
  cleanup: Cleanup,
): Promise<Server> {
  const file = join(directory, `workers-${workers}.log`);
  const log = await open(file, 'w');
  const child = spawn(process.execPath, [...startFlags, 'server/main.ts'], {
    env: { PATH: process.env.PATH, ...startEnvironment, ...environment, WORKERS: String(workers) },
    stdio: ['ignore', log.fd, 'inherit'],
  });
  await log.close();
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  };
  cleanup.add(stop);
  const serving = workers === 1 ? 0 : workers;
  const deadline = Date.now() + startLimitMs;
  for (;;) {
    const text = await readFile(file, 'utf8');
    const port = /"port":(\d+),[^\n]*"ready"/.exec(text)?.[1];
    if (port && (text.match(/"worker serves"/g) ?? []).length === serving)
      return { workers, port: Number(port), cpuMs: () => cpuOfFamily(Number(child.pid)), stop };
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`no server: ${text}`);
    await setTimeout(50);
  }
}

async function cpuOfFamily(pid: number): Promise<number> {
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).split(' ').filter(Boolean);
  const times = [pid, ...children.map(Number)].map(async (one) => {
    // Behind the program's name, which may hold anything: user and system time are the 14th and 15th.
    const fields = (await readFile(`/proc/${one}/stat`, 'utf8')).replace(/^.*\) /s, '').split(' ');
    return (Number(fields[11]) + Number(fields[12])) * tickMs;
  });
  return (await Promise.all(times)).reduce((sum, ms) => sum + ms, 0);
}

await run(main);
