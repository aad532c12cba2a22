import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createHarness, type Harness, kek } from '../support/harness.ts';
import { openConnection } from './connection.ts';
import { type FuzzReport, fuzz } from './fuzz.ts';
import { createRequests, serialize } from './requests.ts';
import { createScene, type Scene } from './scene.ts';
import { createSecretScanner } from './secrets.ts';
import { type FuzzedServer, startServer } from './server.ts';
import { keyOf, libraryPaths, type Route, readSurface, watchRouters } from './surface.ts';

/**
 * A part of the full run, which is `npm run test:fuzz -- --requests 1000000`. A failure is repeated with the seed that
 * it names: `npm run test:fuzz -- --seed N`.
 */
const requests = Number(process.env.FUZZ_REQUESTS ?? 100_000);
const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));

let harness: Harness;
let github: Server;
let server: FuzzedServer;
let scene: Scene;
let wired: ReturnType<typeof watchRouters>;
let logs: Buffer[] = [];

beforeAll(async () => {
  github = createServer((_request, response) => {
    response.setHeader('content-type', 'application/json');
    const key = scene.github.publicKey.export({ type: 'spki', format: 'pem' });
    response.end(JSON.stringify({ public_keys: [{ key_identifier: 'current', key, is_current: true }] }));
  }).listen(0, '127.0.0.1');
  await once(github, 'listening');
  const env = {
    // What is looked for is in the endpoints: limits would hide them behind one 429.
    RATE_LIMITS: 'off',
    GITHUB_SECRET_SCANNING_KEYS_URL: `http://127.0.0.1:${(github.address() as AddressInfo).port}/keys`,
  };
  wired = watchRouters();
  harness = await createHarness({ env });
  wired.stop();
  server = await startServer(
    {
      ...env,
      DATABASE_URL: harness.databaseUrl,
      KEY_ENCRYPTION_KEY: kek.toString('base64url'),
      ISSUER: harness.issuer,
      LOG_LEVEL: 'debug',
    },
    (chunk) => logs.push(chunk),
  );
  scene = await createScene(harness, `http://127.0.0.1:${server.port}`);
});
afterAll(async () => {
  await server?.stop();
  github?.close();
  await harness?.close();
});

it('leaves no route out', async () => {
  const surface = await readSurface(`http://127.0.0.1:${server.port}`, wired.routes);
  const known = new Set(surface.map(keyOf));
  // What app.ts mounts without a router must be in the metadata, and what it lets through to the library, in the list.
  const app = await readFile('server/app.ts', 'utf8');
  const endpoints = [...app.matchAll(/^ {2}endpoint\(\s*'([^']+)'/gm)].map(([, path]) => `POST ${path}`);
  expect(endpoints).toContain('POST /oauth/token');
  for (const endpoint of endpoints) expect(known).toContain(endpoint);
  const allowed = /^const providerPaths = (.+);$/m.exec(app)?.[1];
  expect(allowed).toBe(String.raw`/^\/oauth\/(authorize(\/[\w-]+)?|logout(\/(confirm|success))?)$/`);
  for (const [method, path] of libraryPaths) expect(known).toContain(keyOf({ method, path }));
  expect(known.size).toBeGreaterThan(50);
});

it('has something good to ask of every route', async () => {
  await scene.restore();
  const surface = await readSurface(`http://127.0.0.1:${server.port}`, wired.routes);
  // An interaction is there for what an earlier answer led to.
  const ready = surface.filter((route) => !route.path.endsWith('/{uid}') && !(keyOf(route) in leastGood));
  expect(ready.length).toBeGreaterThan(50);
  for (const route of ready) {
    const own = createRequests(scene, [route]).filter(
      ({ route: of, method }) => of === keyOf(route) && method === route.method,
    );
    const statuses: number[] = [];
    // Where one in twelve is good, the least of all routes, 200 that are not would come once in ten million runs.
    for (const request of fc.sample(own, { numRuns: 200, seed })) {
      const connection = await openConnection(server.port);
      const [answer] = await connection.send(serialize(request), [request.method]);
      connection.close();
      statuses.push(answer?.status ?? 0);
      if (isGood(statuses.at(-1))) break;
    }
    expect(statuses, keyOf(route)).toSatisfy((all: number[]) => isGood(all.at(-1)));
  }
}, 120_000);

it(`answers ${requests} requests, good, bad and broken, as it should (seed ${seed})`, async () => {
  const say = (text: string) => process.stderr.write(`fuzz: ${text}\n`);
  const started = Date.now();
  say(`seed ${seed}`);
  const surface = await readSurface(`http://127.0.0.1:${server.port}`, wired.routes);
  const report = await fuzz({
    server,
    scene,
    surface,
    scanner: createSecretScanner(),
    takeLogs() {
      const taken = Buffer.concat(logs);
      logs = [];
      return taken;
    },
    seed,
    requests,
    onRound: (text) => say(`${Math.round((Date.now() - started) / 1000)} s: ${text}`),
  });
  for (const line of summary(report)) say(line);
  verifyReport(report, surface);
  expect(await server.stop()).toBe(0);
}, 3_600_000);

function summary(report: FuzzReport): string[] {
  const { answered, mutants, mutantsEnded, statuses, mutantStatuses, descriptions, slowest, logBytes, shed } =
    report;
  const byRoute = [...statuses]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([route, counts]) => `${route.padEnd(52)} ${present(counts)}`);
  return [
    `${answered} whole requests, ${mutants} broken ones (${JSON.stringify(mutantsEnded)}, ${present(mutantStatuses)})`,
    ...byRoute,
    `${descriptions.size} error descriptions; slowest group of answers ${Math.round(slowest.ms)} ms; ${Math.round(logBytes / 2 ** 20)} MiB of log; ${shed} sent again, as the server was busy`,
  ];
}

const present = (counts: ReadonlyMap<number, number>) =>
  [...counts]
    .toSorted(([a], [b]) => a - b)
    .map(([status, count]) => `${status}×${count}`)
    .join(' ');

/** A fuzz whose every request is refused at the door tests nothing; nor does one that leaves a route out. */
function verifyReport(report: FuzzReport, surface: readonly Route[]): void {
  expect(report.answered + report.mutants).toBeGreaterThanOrEqual(requests);
  // Of few, shares say nothing; and a run in thirty has no good rotation by chance: that is for a run of its own to say.
  const shares = process.env.FUZZ_REQUESTS !== undefined && requests >= 50_000;
  for (const route of [...surface.map(keyOf), 'nowhere']) {
    const counts = [...(report.statuses.get(route) ?? new Map<number, number>())];
    const sum = (least: number, most: number) =>
      counts.reduce((total, [status, count]) => total + (status >= least && status <= most ? count : 0), 0);
    expect(sum(200, 599), route).toBeGreaterThan(shares ? 50 : 0);
    if (!shares) continue;
    expect(sum(400, 499), route).toBeGreaterThan(0);
    const good = sum(200, 399);
    expect(good / sum(200, 599), `${route}: good ones`).toBeGreaterThan(leastGood[route] ?? 0.04);
  }
  // Each says one of the product's own sentences: one that repeated what was sent would be as many as the requests.
  expect(report.descriptions.size).toBeLessThan(80);
  // Else the machine is too slow for this to say anything.
  expect(report.shed).toBeLessThan(requests / 50);
  expect(report.mutantsEnded.answered / report.mutants).toBeGreaterThan(0.5);
  // Whatever one request asks for: others are answered. (A bound against hangs, and no measure of speed.)
  for (const { delayMs } of report.measures) expect(delayMs).toBeLessThan(5_000);
  // After the first rounds everything that is made once is there.
  const [settled = 0] = report.measures.slice(2).map(({ heapUsed }) => heapUsed);
  const last = report.measures.slice(-3).map(({ heapUsed }) => heapUsed);
  if (settled > 0) expect(Math.min(...last) - settled).toBeLessThan(24 * 2 ** 20);
}

const isGood = (status = 0) => status >= 200 && status < 400;

/** Where what makes a request good is seldom there: sign-ins in progress, a question that waits, a place that is none. */
const leastGood: Readonly<Record<string, number>> = {
  'GET /oauth/authorize/{}': 0,
  'POST /oauth/logout/confirm': 0,
  'POST /admin/signing-keys/rotate': 0.0005,
  nowhere: -1,
};
