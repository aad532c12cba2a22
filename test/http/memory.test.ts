import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { createTestDatabase, exchange, kek } from '../support/harness.ts';
import { administrator, createProcesses, type Processes, stop } from '../support/processes.ts';

let processes: Processes;
afterEach(() => processes?.close());

/** In MB, of all kinds: bodies lie outside of V8's heap. VmHWM is the highest so far. */
const residentSize = async (pid: number | undefined, field: 'VmRSS' | 'VmHWM' = 'VmRSS') =>
  Number(new RegExp(`${field}:\\s+(\\d+)`).exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

const leakReport = [
  'POST /leaks/github HTTP/1.1',
  'Host: x',
  'Content-Type: application/json',
  'GitHub-Public-Key-Identifier: a',
  'GitHub-Public-Key-Signature: AAAA',
  'Content-Length: 1000000',
  '',
  '[',
].join('\r\n');
const form = 'Content-Type: application/x-www-form-urlencoded\r\n';
/** What each of so many connections sends, and then nothing more. */
const kinds: Record<string, { readonly connections: number; readonly bytes: string }> = {
  'large bodies that do not end': { connections: 400, bytes: leakReport + ' '.repeat(900_000) },
  'bodies that do not end': {
    connections: 400,
    bytes: `POST /oauth/token HTTP/1.1\r\nHost: x\r\n${form}Content-Length: 16000\r\n\r\n${'a'.repeat(15_000)}`,
  },
  'headers that do not end': {
    connections: 400,
    bytes: `GET / HTTP/1.1\r\nHost: x\r\n${'a: bcdef\r\n'.repeat(1_500)}`,
  },
  'chunks without an end': {
    connections: 200,
    bytes: `POST /oauth/token HTTP/1.1\r\nHost: x\r\n${form}Transfer-Encoding: chunked\r\n\r\n${'1\r\na\r\n'.repeat(15_000)}`,
  },
  'many requests ahead': {
    connections: 200,
    bytes: 'GET /dashboard HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(2_000),
  },
};

const secret = 'an-admin-secret-of-32-characters-or-more';

/** A server and one good client of it. */
async function startServer() {
  processes = await createProcesses();
  const { url: databaseUrl, drop } = await createTestDatabase();
  const server = await processes.start({
    DATABASE_URL: databaseUrl,
    KEY_ENCRYPTION_KEY: kek.toString('base64url'),
    ADMIN_CLIENT_SECRET: secret,
    LOG_LEVEL: 'error',
    GITHUB_SECRET_SCANNING_KEYS_URL: 'http://127.0.0.1:1/',
  });
  const admin = await administrator(server.url, secret);
  const service = { id: 'tms', name: 'TMS', audience: 'https://tms.example.com', scopes: ['tms:read'] };
  await admin.post('/admin/services', service);
  const { organizationId, userId } = await admin.newMember();
  const owner = { service: 'tms', organization_id: organizationId, user_id: userId };
  const created = await admin.post('/admin/tokens', { name: 'CI', ...owner });
  const { token } = (await created.json()) as { token: string };
  // What is shed on a slow machine is tried again, as a client does.
  const good = async (attempt = 1): Promise<number> => {
    const response = await exchange(server.url, token);
    await response.body?.cancel();
    if (response.status !== 503 || attempt === 10) return response.status;
    await new Promise((resolve) => setTimeout(resolve, 500));
    return good(attempt + 1);
  };
  for (let count = 0; count < 200; count += 1) await good();
  return { server, good, before: await residentSize(server.child.pid), drop };
}

/** What it sends back is not read, and that it is cut or refused is as it should be. */
function openDeaf(port: number): Socket {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  return socket.pause();
}

const onLinux = { timeout: 180_000, skip: process.platform !== 'linux' };

it('is bounded whatever comes, and a good client is served meanwhile', onLinux, async () => {
  const { server, good, before, drop } = await startServer();
  const sockets: Socket[] = [];
  for (const [kind, { connections, bytes }] of Object.entries(kinds)) {
    for (let count = 0; count < connections; count += 1) {
      const socket = openDeaf(server.port);
      socket.write(bytes);
      sockets.push(socket);
      if (count % 50 === 0) expect([kind, await good()]).toEqual([kind, 200]);
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect([kind, await good()]).toEqual([kind, 200]);
    // Once the garbage of what was refused is gone.
    await expect
      .poll(async () => (await residentSize(server.child.pid)) - before, { timeout: 15_000 })
      .toBeLessThan(300);
  }
  for (const socket of sockets) socket.destroy();
  expect(await good()).toBe(200);
  expect(await stop(server)).toBe(0);
  await drop();
});

it(
  'is bounded where a thousand connections each bring thousands of requests in one turn of the event loop',
  onLinux,
  async () => {
    const { server, good, before, drop } = await startServer();
    const sockets: Socket[] = [];
    for (let count = 0; count < 1_000; count += 1) {
      const socket = openDeaf(server.port);
      await once(socket, 'connect');
      sockets.push(socket);
    }
    // What comes meanwhile is there all at once when it goes on.
    server.child.kill('SIGSTOP');
    for (const socket of sockets) socket.write('GET /a HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(2_400));
    await new Promise((resolve) => setTimeout(resolve, 500));
    server.child.kill('SIGCONT');
    // Each is cut: until then all of it may not have been read.
    await Promise.all(
      sockets.map((socket) => new Promise((closed) => socket.resume().once('close', closed))),
    );
    expect(await good()).toBe(200);
    expect((await residentSize(server.child.pid, 'VmHWM')) - before).toBeLessThan(200);
    for (const socket of sockets) socket.destroy();
    expect(await stop(server)).toBe(0);
    await drop();
  },
);
