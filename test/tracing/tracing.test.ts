import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readConfig } from '../../config/env.ts';
import { type Answer, createCollector } from '../support/collector.ts';
import { createHarness, exchange, findFreePort, type Harness, kek } from '../support/harness.ts';
import { createProcesses, type Launched, type Processes, stop } from '../support/processes.ts';

/** Traces of the real process, as a collector gets them. */

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const spanId = '00f067aa0ba902b7';
const traceparent = `00-${traceId}-${spanId}-01`;
let harness: Harness;
let token: string;
let database: NodeJS.ProcessEnv;
let processes: Processes;
beforeAll(async () => {
  harness = await createHarness();
  ({ token } = await harness.build.platformToken());
  database = { DATABASE_URL: harness.databaseUrl, KEY_ENCRYPTION_KEY: kek.toString('base64url') };
});
afterAll(() => harness.close());
beforeEach(async () => {
  processes = await createProcesses();
});
afterEach(() => processes.close());

const requestLines = ({ output }: Launched, route: string): Record<string, unknown>[] =>
  output()
    .split('\n')
    .filter((line) => line.includes('"msg":"request"') && line.includes(`"route":"${route}"`))
    .map((line) => JSON.parse(line));

it('continues the trace of its caller, and says what an exchange is made of, and nothing of what is secret', {
  timeout: 90_000,
}, async () => {
  const collector = await createCollector();
  const server = await processes.start({
    ...database,
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_SERVICE_NAME: 'tokens-of-eu',
  });
  const headers = { traceparent, tracestate: 'vendor=value', baggage: `secret=${token}` };
  const answer = await exchange(server.url, token, {}, headers);
  const { access_token: jwt } = (await answer.json()) as { access_token: string };
  for (const bad of [`00-${'0'.repeat(32)}-${spanId}-01`, `ptk_${token}`, 'x'.repeat(4000)])
    expect((await exchange(server.url, token, {}, { traceparent: bad })).status).toBe(200);
  // More than there are connections for: some look-ups wait for the end of others'.
  const many = Array.from({ length: 64 }, () => exchange(server.url, token, {}, { traceparent }));
  for (const { status } of await Promise.all(many)) expect(status).toBe(200);
  await fetch(`${server.url}/dashboard/${token}?token=${token}`);
  await fetch(`${server.url}/${token}`);
  expect(await stop(server)).toBe(0);

  const spans = collector.spans();
  expect([...collector.paths]).toEqual(['POST /v1/traces application/x-protobuf']);
  expect(new Set(collector.serviceNames())).toEqual(new Set(['tokens-of-eu']));
  const exchanges = spans.filter(({ name }) => name === 'POST /oauth/token');
  const continued = exchanges.filter((span) => span.traceId === traceId);
  expect([exchanges.length, continued.length]).toEqual([68, 65]);
  const [first] = exchanges;
  expect(first).toMatchObject({
    parentSpanId: spanId,
    traceState: 'vendor=value',
    kind: 2,
    attributes: {
      'http.request.method': 'POST',
      'http.route': '/oauth/token',
      'http.response.status_code': 200,
    },
  });
  for (const span of exchanges.filter((one) => one.traceId !== traceId)) expect(span.parentSpanId).toBe('');
  const below = (parent: { spanId: string } | undefined) =>
    spans.filter(({ parentSpanId }) => parentSpanId === parent?.spanId);
  expect(
    below(first)
      .map(({ name }) => name)
      .toSorted(),
  ).toEqual(['look up platform token', 'sign access token']);
  const lookup = below(first).find(({ name }) => name === 'look up platform token');
  expect(below(lookup).map(({ name }) => name)).toEqual(['SELECT platform_tokens']);

  // Of those that came at once, fewer queries than look-ups, and each look-up in one query's links.
  const lookups = spans.filter(({ name }) => name === 'look up platform token');
  const queries = spans.filter(({ name }) => name === 'SELECT platform_tokens');
  expect(lookups).toHaveLength(68);
  expect(queries.flatMap(({ links }) => links).toSorted()).toEqual(
    lookups.map((one) => one.spanId).toSorted(),
  );
  for (const query of queries) expect(query.attributes['db.operation.batch.size']).toBe(query.links.length);

  // What is written behind the answers is nobody's.
  const known = new Set([...spans.map((one) => one.spanId), spanId, '']);
  expect(spans.filter(({ parentSpanId }) => !known.has(parentSpanId))).toEqual([]);
  const bytes = collector.bytes();
  for (const secret of [token, jwt, jwt.split('.')[2] as string, 'ptk_'])
    expect(bytes.includes(secret), secret.slice(0, 4)).toBe(false);

  const [line] = requestLines(server, '/oauth/token');
  expect(line).toMatchObject({ trace_id: traceId, span_id: first?.spanId });
  expect(first?.attributes['platform_tokens.request_id']).toBe(line?.request_id);
  await collector.close();
});

it('has the requests of every worker, each with its parts', { timeout: 60_000 }, async () => {
  const collector = await createCollector();
  const server = await processes.start({
    ...database,
    WORKERS: '2',
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
  });
  await expect.poll(() => server.output().match(/"msg":"worker serves"/g)?.length).toBe(2);
  // A connection stays with the worker that took it.
  for (let n = 0; n < 8; n += 1)
    expect((await exchange(server.url, token, {}, { traceparent, connection: 'close' })).status).toBe(200);
  expect(await stop(server)).toBe(0);
  const workers = new Set(requestLines(server, '/oauth/token').map(({ worker }) => worker));
  expect(workers).toEqual(new Set([1, 2]));
  const spans = collector.spans();
  const exchanges = spans.filter(({ name }) => name === 'POST /oauth/token');
  expect(exchanges.map((span) => span.traceId)).toEqual(Array(8).fill(traceId));
  for (const { spanId: id } of exchanges) {
    const parts = spans.filter(({ parentSpanId }) => parentSpanId === id).map(({ name }) => name);
    expect(parts.toSorted()).toEqual(['look up platform token', 'sign access token']);
  }
  await collector.close();
});

it('follows the sampler of the environment', { timeout: 60_000 }, async () => {
  const collector = await createCollector();
  const server = await processes.start({
    ...database,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${collector.url}/here`,
    OTEL_TRACES_SAMPLER: 'parentbased_always_off',
  });
  await fetch(`${server.url}/oauth/jwks`);
  await fetch(`${server.url}/health/live`, { headers: { traceparent } });
  await stop(server);
  expect(collector.spans().map(({ name }) => name)).toEqual(['GET /health/live']);
  expect([...collector.paths]).toEqual(['POST /here application/x-protobuf']);
  await collector.close();
});

const neverEnds: Answer = (_request, response) => {
  response.writeHead(200);
  const timer = setInterval(() => response.write('x'), 50);
  response.on('close', () => clearInterval(timer));
};

it.each<[string, Answer | undefined]>([
  ['is down', undefined],
  ['does not answer', () => {}],
  ['does not end its answer', neverEnds],
  ['refuses', (_request, response) => response.writeHead(500).end('x'.repeat(100_000))],
])('exchanges, and stops in time, where the collector %s', { timeout: 60_000 }, async (_how, answer) => {
  const collector = answer && (await createCollector(answer));
  const OTEL_EXPORTER_OTLP_ENDPOINT = collector?.url ?? `http://127.0.0.1:${await findFreePort()}`;
  const server = await processes.start({ ...database, OTEL_EXPORTER_OTLP_ENDPOINT });
  // More spans than one export takes, and than may wait.
  for (let round = 0; round < 30; round++) {
    const answers = Array.from({ length: 30 }, () => exchange(server.url, token));
    for (const { status } of await Promise.all(answers)) expect(status).toBe(200);
  }
  const began = performance.now();
  expect(await stop(server)).toBe(0);
  expect(performance.now() - began).toBeLessThan(15_000);
  expect(server.output()).not.toMatch(/"level":(50|60)|unhandled/i);
  await collector?.close();
});

describe('without an endpoint', () => {
  const hook = `data:text/javascript,${encodeURIComponent(`
    import { registerHooks } from 'node:module';
    registerHooks({ resolve(specifier, context, next) {
      const resolved = next(specifier, context);
      if (resolved.url.includes('opentelemetry')) console.log('LOADS', resolved.url);
      return resolved;
    } });`)}`;

  async function startWatched(env: NodeJS.ProcessEnv) {
    const port = await findFreePort();
    const launched = processes.launch({ ...database, ...env, PORT: String(port) }, [
      '--import',
      hook,
      'server/main.ts',
    ]);
    const url = `http://127.0.0.1:${port}`;
    await expect
      .poll(async () => (await fetch(`${url}/health/ready`).catch(() => undefined))?.status, {
        timeout: 30_000,
      })
      .toBe(200);
    return { ...launched, url };
  }

  it('loads nothing of OpenTelemetry, whatever else is set', { timeout: 60_000 }, async () => {
    const server = await startWatched({ OTEL_SERVICE_NAME: 'x', OTEL_TRACES_SAMPLER: 'always_on' });
    await exchange(server.url, token, {}, { traceparent });
    await fetch(`${server.url}/metrics`);
    expect(await stop(server)).toBe(0);
    expect(server.output()).not.toContain('LOADS');
    // The trace of the caller is in the log all the same; a span of ours there is none.
    const [line] = requestLines(server, '/oauth/token');
    expect(line?.trace_id).toBe(traceId);
    expect(line).not.toHaveProperty('span_id');
  });

  it('would be seen to load it', { timeout: 60_000 }, async () => {
    const server = await startWatched({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' });
    await stop(server);
    expect(server.output()).toMatch(/LOADS .*opentelemetry/);
  });
});

describe('the configuration', () => {
  const tracing = (env: NodeJS.ProcessEnv) => readConfig(env).tracing;
  const endpoint = 'http://collector:4318';

  it('is off without an endpoint, or where the SDK is disabled', () => {
    expect(tracing({})).toBeUndefined();
    expect(tracing({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_SDK_DISABLED: 'true' })).toBeUndefined();
    expect(tracing({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_TRACES_EXPORTER: 'none' })).toBeUndefined();
  });

  it('adds the path of traces to the endpoint of all signals, and not to their own', () => {
    expect(tracing({ OTEL_EXPORTER_OTLP_ENDPOINT: `${endpoint}/` })?.endpoint).toBe(`${endpoint}/v1/traces`);
    expect(
      tracing({
        OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://other/x',
      })?.endpoint,
    ).toBe('https://other/x');
  });

  it.each([
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'ftp://user:secret@collector'],
    ['OTEL_EXPORTER_OTLP_PROTOCOL', 'grpc'],
    ['OTEL_TRACES_SAMPLER', 'jaeger_remote'],
    ['OTEL_TRACES_SAMPLER_ARG', '2'],
  ])('refuses %s=%s, without its value', (name, value) => {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, [name]: value };
    expect(() => readConfig(env)).toThrow(new RegExp(`${name} must be`));
    expect(() => readConfig(env)).not.toThrow(/secret/);
  });

  it('refuses a METRICS_TOKEN that no header can hold', () => {
    expect(() => readConfig({ METRICS_TOKEN: 'two words' })).toThrow(/METRICS_TOKEN must be/);
  });
});
