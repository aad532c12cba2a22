import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { createServer } from 'node:net';
import { decodeProtectedHeader } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createTestDatabase, exchangeGrant, findFreePort, kek } from './support/harness.ts';
import {
  administrator,
  createProcesses,
  type Launched,
  type Processes,
  printed,
  type Started,
  stop,
  underLoad,
} from './support/processes.ts';

/** `WORKERS=2`: the real processes. */

const adminSecret = 'an-admin-secret-of-32-characters-or-more';
let processes: Processes;
beforeEach(async () => {
  processes = await createProcesses();
});
afterEach(() => processes.close());

interface Answer {
  readonly status: number;
  readonly closes: boolean;
  readonly body: Record<string, unknown>;
}

/** One connection that is kept alive: what is sent on it is answered by one worker. */
function createConnection(url: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const send = (method: string, path: string, headers: Record<string, string>, body = '') =>
    new Promise<Answer>((resolve, reject) => {
      const sent = request(url + path, { method, agent, headers, timeout: 20_000 }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            closes: response.headers.connection === 'close',
            body: text ? JSON.parse(text) : {},
          }),
        );
      });
      sent.on('timeout', () => sent.destroy(new Error('no answer')));
      sent.on('error', reject);
      sent.end(body);
    });
  return {
    send,
    exchange: (token: string, headers: Record<string, string> = {}) =>
      send(
        'POST',
        '/oauth/token',
        { ...headers, 'content-type': 'application/x-www-form-urlencoded' },
        new URLSearchParams({ grant_type: exchangeGrant, subject_token: token }).toString(),
      ),
    close: () => agent.destroy(),
  };
}
type Connection = ReturnType<typeof createConnection>;
const createConnections = (url: string, count: number) =>
  Array.from({ length: count }, () => createConnection(url));

const lines = ({ output }: Launched): Record<string, unknown>[] =>
  output()
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line));
const startedWorkers = (server: Launched) => lines(server).filter(({ msg }) => msg === 'worker started');

/** Which worker answers on it. */
async function workerOf(server: Launched, connection: Connection): Promise<number> {
  const requestId = crypto.randomUUID();
  await connection.send('GET', '/health/live', { 'x-request-id': requestId });
  const find = () => lines(server).find((line) => line.request_id === requestId)?.worker;
  await expect.poll(find).toBeTypeOf('number');
  return find() as number;
}

/** Connections that exchange one after the other, until they are told to close; a broken one is opened again. */
function load(connections: readonly Connection[], token: string) {
  let over = false;
  let answers = 0;
  const failures: unknown[] = [];
  const done = Promise.all(
    connections.map(async (connection) => {
      while (!over) {
        try {
          const { status, closes, body } = await connection.exchange(token);
          if (status === 200) answers += 1;
          else failures.push([status, body]);
          if (closes) return;
        } catch (error) {
          const { code, message } = error as NodeJS.ErrnoException;
          failures.push(code ?? message);
        }
      }
    }),
  );
  return {
    failures,
    answers: () => answers,
    async end() {
      over = true;
      await done;
      for (const connection of connections) connection.close();
    },
    done,
  };
}

async function startTwo() {
  const { url: databaseUrl, database, drop } = await createTestDatabase();
  const server = await processes.start({
    DATABASE_URL: databaseUrl,
    KEY_ENCRYPTION_KEY: kek.toString('base64url'),
    ADMIN_CLIENT_SECRET: adminSecret,
    WORKERS: '2',
    ...underLoad,
  });
  const ready = () => lines(server).filter(({ msg }) => msg === 'worker serves').length;
  await expect.poll(ready).toBe(2);
  const admin = await administrator(server.url, adminSecret);
  const service = { id: 'tms', name: 'TMS', audience: 'https://tms.example.com', scopes: ['tms:read'] };
  await admin.post('/admin/services', service);
  const { organizationId, userId } = await admin.newMember();
  const created = await admin.post('/admin/tokens', {
    name: 'CI',
    service: 'tms',
    organization_id: organizationId,
    user_id: userId,
  });
  const { id, token } = (await created.json()) as { id: string; token: string };
  return { server, admin, database, id, token, drop };
}

/** A connection to each of the two. */
async function connectToBoth(server: Started): Promise<[Connection, Connection]> {
  const connections: Connection[] = [];
  const workers = new Set<number>();
  while (workers.size < 2) {
    const connection = createConnection(server.url);
    const worker = await workerOf(server, connection);
    if (workers.has(worker)) connection.close();
    else connections.push(connection);
    workers.add(worker);
  }
  return connections as [Connection, Connection];
}

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe('with the embedded database', () => {
  it('serves by both, shows its secrets once, and mixes no lines', { timeout: 60_000 }, async () => {
    const server = await processes.start({ WORKERS: '2' });
    await expect.poll(server.output).toContain('shown this once');
    const token = printed(server.output(), /subject_token=(\S+)/);
    const both = await connectToBoth(server);
    for (const connection of both) expect((await connection.exchange(token)).status).toBe(200);
    const many = load(createConnections(server.url, 8), token);
    await expect.poll(many.answers, { timeout: 30_000 }).toBeGreaterThan(500);
    await many.end();
    for (const connection of both) connection.close();
    expect(await stop(server)).toBe(0);
    expect(server.output().match(/shown this once|password \S+|secret \S+/g)).toHaveLength(3);
    const requests = lines(server).filter(({ msg }) => msg === 'request');
    expect(new Set(requests.map(({ worker }) => worker))).toEqual(new Set([1, 2]));
    expect(requests.filter(({ route }) => route === '/oauth/token').length).toBeGreaterThanOrEqual(
      many.answers() + 2,
    );
    // Whatever has to do with a line of the log is one.
    const others = server
      .output()
      .split('\n')
      .filter((line) => /[{}]|"msg"/.test(line));
    expect(others).toHaveLength(lines(server).length);
  });

  it('makes nothing where the port is taken', { timeout: 60_000 }, async () => {
    const port = await findFreePort();
    const taken = createServer().listen(port, '127.0.0.1');
    await once(taken, 'listening');
    const refused = processes.launch({ PORT: String(port), WORKERS: '3' });
    expect((await once(refused.child, 'close'))[0]).toBe(1);
    expect(refused.output().match(/the port is taken/g)).toHaveLength(1);
    expect(refused.output()).not.toMatch(/^\s+at /m);
    await expect(stat(processes.dataDir)).rejects.toThrow('ENOENT');
    taken.close();
  });

  it('stops in good order while others still come up', { timeout: 60_000 }, async () => {
    const server = await processes.start({ WORKERS: '3' });
    const told = performance.now();
    expect(await stop(server)).toBe(0);
    expect(performance.now() - told).toBeLessThan(15_000);
    expect(lines(server).filter(({ level }) => Number(level) > 30)).toEqual([]);
  });

  it('ends with a primary that is killed, after what is in flight, and starts again', {
    timeout: 90_000,
  }, async () => {
    const server = await processes.start({ WORKERS: '2', ...underLoad });
    const token = printed(server.output(), /subject_token=(\S+)/);
    const pids = startedWorkers(server).map(({ pid }) => Number(pid));
    const running = load(createConnections(server.url, 8), token);
    await expect.poll(running.answers).toBeGreaterThan(100);
    await stop(server, 'SIGKILL');
    await running.done;
    expect(running.failures).toEqual([]);
    await expect.poll(() => pids.filter(isAlive)).toEqual([]);
    const again = await processes.start({ WORKERS: '2', PORT: String(server.port) });
    const connection = createConnection(again.url);
    expect((await connection.exchange(token)).status).toBe(200);
    connection.close();
    expect(await stop(again)).toBe(0);
  });
});

it('honours at one worker what was deleted at the other, and follows its rotations', {
  timeout: 60_000,
}, async () => {
  const { server, admin, id, token, drop } = await startTwo();
  const [one, other] = await connectToBoth(server);
  const authorization = { authorization: `Bearer ${admin.token}` };
  const signer = async (connection: Connection) => {
    const { access_token: jwt } = (await connection.exchange(token)).body;
    return decodeProtectedHeader(String(jwt)).kid;
  };
  const before = await signer(other);
  expect(await signer(one)).toBe(before);

  const rotation = JSON.stringify({ emergency: true, reason: 'test' });
  const headers = { ...authorization, 'content-type': 'application/json' };
  expect((await one.send('POST', '/admin/signing-keys/rotate', headers, rotation)).status).toBe(201);
  const after = await signer(one);
  expect(after).not.toBe(before);
  await expect.poll(() => signer(other)).toBe(after);

  const renewed = await administrator(server.url, adminSecret);
  const deleted = await one.send('DELETE', `/admin/tokens/${id}`, {
    authorization: `Bearer ${renewed.token}`,
  });
  expect(deleted.status).toBe(204);
  for (const connection of [other, one]) expect((await connection.exchange(token)).status).toBe(400);
  one.close();
  other.close();
  expect(await stop(server)).toBe(0);
  await drop();
});

it('replaces a worker that is killed, with no failed request but those that it held', {
  timeout: 90_000,
}, async () => {
  const { server, token, drop } = await startTwo();
  const [victim] = startedWorkers(server);
  const connections = createConnections(server.url, 8);
  const workers = await Promise.all(connections.map((connection) => workerOf(server, connection)));
  const held = workers.filter((worker) => worker === 1).length;
  const running = load(connections, token);
  await expect.poll(running.answers).toBeGreaterThan(200);
  process.kill(Number(victim?.pid), 'SIGKILL');
  await expect.poll(() => startedWorkers(server).length).toBe(3);
  // Connections that are opened from now on go to both.
  const opened = async () => {
    const connection = createConnection(server.url);
    return workerOf(server, connection).finally(() => connection.close());
  };
  await expect.poll(opened, { timeout: 30_000 }).toBe(3);
  await expect.poll(opened).toBe(2);
  await running.end();
  // On each connection one request was in flight; and one that is opened in that moment may be on its way to it.
  expect(running.failures.length).toBeLessThanOrEqual(held + 1);
  expect(running.failures).toSatisfy((codes: unknown[]) => codes.every((code) => code === 'ECONNRESET'));
  expect(lines(server).find(({ msg }) => msg === 'worker ended')).toMatchObject({
    worker: 1,
    signal: 'SIGKILL',
  });
  expect(await stop(server)).toBe(0);
  await drop();
});

it.each([
  ['SIGTERM to the primary', 'SIGTERM', (server: Started) => Number(server.child.pid)],
  ['SIGINT to all, as from a terminal', 'SIGINT', (server: Started) => -Number(server.child.pid)],
] as const)('loses no request under load at a %s', { timeout: 60_000 }, async (_how, signal, target) => {
  const { server, token, drop } = await startTwo();
  const probe = createConnection(server.url);
  const running = load(createConnections(server.url, 8), token);
  await expect.poll(running.answers).toBeGreaterThan(200);
  const exited = once(server.child, 'exit');
  process.kill(target(server), signal);
  // Readiness first, while both still serve.
  await expect
    .poll(async () => (await probe.send('GET', '/health/ready', {})).body, { interval: 20 })
    .toEqual({ status: 'unavailable', reasons: ['stopping'] });
  process.kill(target(server), signal);
  await running.done;
  probe.close();
  expect((await exited)[0]).toBe(0);
  expect(running.failures).toEqual([]);
  expect(lines(server).filter(({ msg }) => msg === 'stopping')).toHaveLength(1);
  await drop();
});

it('gives up where workers end as soon as they are started', { timeout: 120_000 }, async () => {
  const { server, database, drop } = await startTwo();
  // Those that run have it open; a new one cannot open it.
  await database.knex('signing_keys').update({ private_jwe: 'broken' });
  const exited = once(server.child, 'close');
  process.kill(Number(startedWorkers(server)[0]?.pid), 'SIGKILL');
  expect((await exited)[0]).toBe(1);
  const all = lines(server);
  expect(all.filter(({ msg }) => msg === 'worker ended')).toHaveLength(5);
  expect(JSON.stringify(all)).toContain('cannot be decrypted');
  expect(all.find(({ level }) => level === 60)).toMatchObject({
    msg: 'stopping: no worker stays up',
    err: { message: '5 workers in a row ended within 10 s' },
  });
  await drop();
});
