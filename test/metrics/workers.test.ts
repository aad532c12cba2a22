import { Agent, request } from 'node:http';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { createGathering } from '../../server/gathering.ts';
import type { Family } from '../../server/metrics/registry.ts';
import { createHarness, exchangeGrant, type Harness, kek } from '../support/harness.ts';
import { countOf, parseMetrics, type Samples, samplesOf } from '../support/metrics.ts';
import { createProcesses, type Processes, type Started } from '../support/processes.ts';

/** `WORKERS=2`: whichever of them answers, the numbers are those of all. */

let harness: Harness;
let token: string;
let processes: Processes;
beforeAll(async () => {
  harness = await createHarness();
  ({ token } = await harness.build.platformToken());
});
afterAll(() => harness.close());
beforeEach(async () => {
  processes = await createProcesses();
});
afterEach(() => processes.close());

/** A connection that is kept alive stays with the worker that took it; `Connection: close` goes to the next one. */
function send(url: string, body?: string, agent?: Agent): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    const options = { method: body === undefined ? 'GET' : 'POST', headers, agent: agent ?? false } as const;
    const sent = request(url, { ...options, timeout: 20_000 }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', reject);
    });
    sent.on('timeout', () => sent.destroy(new Error('no answer')));
    sent.on('error', reject);
    sent.end(body);
  });
}

const granted = (samples: Samples) =>
  samplesOf(samples, 'platform_tokens_exchanges_total')
    .filter(([key]) => key.includes('"granted"'))
    .reduce((sum, [, value]) => sum + value, 0);

async function startTwo() {
  const server = await processes.start({
    WORKERS: '2',
    DATABASE_URL: harness.databaseUrl,
    KEY_ENCRYPTION_KEY: kek.toString('base64url'),
  });
  await expect.poll(() => workerPids(server, 'worker serves').length).toBe(2);
  const form = new URLSearchParams({ grant_type: exchangeGrant, subject_token: token }).toString();
  return {
    server,
    exchange: (agent?: Agent) => send(`${server.url}/oauth/token`, form, agent),
    read: async (agent?: Agent) => {
      const { status, text } = await send(`${server.url}/metrics`, undefined, agent);
      expect(status).toBe(200);
      return parseMetrics(text);
    },
  };
}

const workerPids = ({ output }: Started, message: string): number[] =>
  output()
    .split('\n')
    .filter((line) => line.includes(`"msg":"${message}"`))
    .map((line) => JSON.parse(line).pid);

it('adds up to every exchange of both, whichever worker is asked', { timeout: 60_000 }, async () => {
  const { exchange, read } = await startTwo();
  const agents = Array.from({ length: 4 }, () => new Agent({ keepAlive: true, maxSockets: 1 }));
  const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => exchange(agents[i % 4])));
  expect(answers.map(({ status }) => status)).toEqual(Array(200).fill(200));
  for (const agent of [...agents, undefined, undefined]) expect(granted(await read(agent))).toBe(200);
  const samples = await read();
  expect(countOf(samples, 'platform_tokens_exchange_duration_seconds_count')).toBe(200);
  expect(countOf(samples, 'platform_tokens_workers')).toBe(2);
  expect(countOf(samples, 'platform_tokens_workers_silent')).toBe(0);
  // What the primary does for all of them.
  const active = 'platform_tokens_tokens{status="active"}';
  await expect.poll(async () => countOf(await read(), active)).toBeGreaterThan(0);
  for (const agent of agents) agent.destroy();
});

it('never falls while a worker hangs, and when it is killed', { timeout: 90_000 }, async () => {
  const { server, exchange, read } = await startTwo();
  const agents = Array.from({ length: 4 }, () => new Agent({ keepAlive: true, maxSockets: 1 }));
  await Promise.all(Array.from({ length: 80 }, (_, i) => exchange(agents[i % 4])));
  for (const agent of agents) agent.destroy();
  expect(granted(await read())).toBe(80);
  const [hanging] = workerPids(server, 'worker started');
  process.kill(hanging as number, 'SIGSTOP');
  // New connections go to both in turn: those that meet the one that hangs wait with it.
  const asked = Array.from({ length: 6 }, () => read().catch(() => undefined));
  const answered = await Promise.race(asked);
  expect(granted(answered as Samples)).toBe(80);
  expect(countOf(answered as Samples, 'platform_tokens_workers_silent')).toBe(1);
  process.kill(hanging as number, 'SIGKILL');
  await Promise.all(asked);
  await expect.poll(() => workerPids(server, 'worker serves').length).toBe(3);
  const after = await read();
  expect(granted(after)).toBe(80);
  expect(countOf(after, 'platform_tokens_workers_started_total')).toBe(3);
  await exchange();
  expect(granted(await read())).toBe(81);
});

const counted = (value: number): Family[] => [
  { name: 'a_total', help: '', type: 'counter', combine: 'sum', samples: { '': value } },
  { name: 'b', help: '', type: 'gauge', combine: 'sum', samples: { '': value } },
];

it('asks a worker that owes an answer no second time, and takes what it told before', async () => {
  const sent: number[] = [];
  let silent = -1;
  const gathering = createGathering({
    own: (count) => {
      silent = count;
      return [];
    },
    running: () => [1, 2].map((id) => ({ id, send: () => void sent.push(id) })),
    timeoutMs: 20,
  });
  const read = async () => (await gathering.gather()).map(({ samples }) => samples['']);
  const first = read();
  gathering.told(1, counted(3));
  gathering.told(2, counted(4));
  expect(await first).toEqual([7, 7]);
  expect(silent).toBe(0);
  const second = read();
  gathering.told(1, counted(5));
  expect(await second).toEqual([9, 9]);
  expect(silent).toBe(1);
  const third = read();
  gathering.told(1, counted(6));
  expect(await third).toEqual([10, 10]);
  expect(sent).toEqual([1, 2, 1, 2, 1]);
  // What it had counted stays, and what it held does not.
  gathering.ended(2);
  const fourth = read();
  gathering.told(1, counted(6));
  gathering.told(2, counted(0));
  expect(await fourth).toEqual([10, 6]);
});
