import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createTestDatabase, exchangeGrant, kek } from './support/harness.ts';
import {
  administrator,
  createProcesses,
  type Launched,
  type Processes,
  stop,
  underLoad,
} from './support/processes.ts';

/** An error that no request caught, in the real process. */

const adminSecret = 'an-admin-secret-of-32-characters-or-more';
let processes: Processes;
beforeEach(async () => {
  processes = await createProcesses();
});
afterEach(() => processes.close());

const lines = ({ output }: Launched): Record<string, unknown>[] =>
  output()
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line));

async function start(workers: string) {
  const { url: databaseUrl, database, drop } = await createTestDatabase();
  const server = await processes.start({
    DATABASE_URL: databaseUrl,
    KEY_ENCRYPTION_KEY: kek.toString('base64url'),
    ADMIN_CLIENT_SECRET: adminSecret,
    WORKERS: workers,
    ...underLoad,
    NODE_OPTIONS: '--import=./test/support/stray-error.ts',
  });
  const admin = await administrator(server.url, adminSecret);
  const service = { id: 'tms', name: 'TMS', audience: 'https://tms.example.com', scopes: ['tms:read'] };
  await admin.post('/admin/services', service);
  const { organizationId, userId } = await admin.newMember();
  const owner = { service: 'tms', organization_id: organizationId, user_id: userId };
  const created = await admin.post('/admin/tokens', { name: 'CI', ...owner });
  const { id, token } = (await created.json()) as { id: string; token: string };
  return { server, database, drop, id, token };
}

/** Exchanges on one connection after the other, each until it is told to close. */
function load(url: string, token: string, clients: number, leaves: boolean) {
  const body = new URLSearchParams({ grant_type: exchangeGrant, subject_token: token }).toString();
  let over = false;
  let answers = 0;
  const failures: unknown[] = [];
  const send = (agent: Agent) =>
    new Promise<{ status: number; closes: boolean }>((resolve, reject) => {
      const headers = { 'content-type': 'application/x-www-form-urlencoded' };
      const sent = request(`${url}/oauth/token`, { method: 'POST', agent, headers }, (response) => {
        response.resume();
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, closes: response.headers.connection === 'close' }),
        );
        response.on('error', reject);
      });
      sent.on('error', reject);
      sent.end(body);
    });
  const done = Promise.all(
    Array.from({ length: clients }, async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      while (!over) {
        try {
          const { status, closes } = await send(agent);
          if (status === 200) answers += 1;
          else failures.push(status);
          // As behind a balancer: whoever is told so goes to another instance.
          if (closes && leaves) break;
        } catch (error) {
          failures.push(error);
        }
      }
      agent.destroy();
    }),
  );
  return {
    failures,
    answers: () => answers,
    done,
    end() {
      over = true;
      return done;
    },
  };
}

it('is logged, and ends the process with 1 after what is in flight; no acknowledged exchange is lost', {
  timeout: 60_000,
}, async () => {
  const { server, database, drop, id, token } = await start('1');
  const running = load(server.url, token, 8, true);
  await expect.poll(running.answers).toBeGreaterThan(50);
  const exited = once(server.child, 'close');
  server.child.kill('SIGUSR2');
  await expect
    .poll(() =>
      fetch(`${server.url}/health/ready`).then(
        ({ status }) => status,
        () => 503,
      ),
    )
    .toBe(503);
  // A second one changes nothing.
  server.child.kill('SIGUSR2');
  await running.done;
  expect((await exited)[0]).toBe(1);
  expect(running.failures).toEqual([]);
  const fatal = lines(server).filter(({ level }) => level === 60);
  expect(fatal[0]).toMatchObject({
    msg: 'stopping: an error was not caught',
    origin: 'uncaughtException',
    err: { message: 'stray' },
  });
  const { rows } = await database.knex.raw(
    'SELECT sum(count)::int AS total FROM exchange_events WHERE token_id = ?',
    [id],
  );
  expect(rows[0].total).toBe(running.answers());
  await drop();
});

it('ends one worker of several, which is replaced, and no request fails', { timeout: 120_000 }, async () => {
  const { server, drop, token } = await start('2');
  const serving = () => lines(server).filter(({ msg }) => msg === 'worker serves');
  await expect.poll(() => serving().length).toBe(2);
  const running = load(server.url, token, 8, false);
  await expect.poll(running.answers).toBeGreaterThan(50);
  const [{ pid } = {}] = serving();
  process.kill(Number(pid), 'SIGUSR2');
  await expect.poll(() => serving().length, { timeout: 60_000 }).toBe(3);
  await running.end();
  expect(running.failures).toEqual([]);
  expect(lines(server).find(({ msg }) => msg === 'worker ended')).toMatchObject({ code: 1, pid });
  expect(await stop(server)).toBe(0);
  await drop();
});
