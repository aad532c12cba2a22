import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createDatabase } from '../../server/storage/database.ts';
import { migrate } from '../../server/storage/migrations.ts';
import { createDoor } from '../support/door.ts';
import { type Fault, faults, type Scene } from './faults.ts';
import { createInstance } from './instance.ts';
import { startLoad, type Tally } from './load.ts';
import { createPair } from './postgres.ts';
import { type Verdict, verify } from './verify.ts';

/**
 * `npm run test:faults`: two instances on one PostgreSQL, load throughout, and one fault after the other. Ends with 1 where
 * an answer was wrong, something acknowledged was lost, a token is there that nobody knows of, or it took more than ten
 * seconds to be well again.
 */

const recoveryLimitMs = 10_000;
const calmMs = 3_000;
const clients = 16;
const page = 'docs/faults.md';
const marks = ['<!-- table -->', '<!-- /table -->'] as const;

interface Row {
  readonly fault: string;
  readonly tally: Tally;
  readonly verdict: Verdict;
  readonly recoveryMs: number;
  readonly note: string | undefined;
}

const { values: options } = parseArgs({
  options: {
    only: { type: 'string' },
    /** Into docs/faults.md. */
    write: { type: 'boolean', default: false },
  },
});

const directory = await mkdtemp(join(tmpdir(), 'platform-tokens-faults-'));
await chmod(directory, 0o755);
const ends: (() => Promise<unknown>)[] = [];
let broken = true;
try {
  broken = await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
} finally {
  for (const end of ends.reverse()) await end().catch((error) => process.stderr.write(`${error}\n`));
  if (broken) process.stderr.write(`logs: ${directory}\n`);
  else await rm(directory, { recursive: true, force: true });
}
process.exit(broken ? 1 : 0);

async function main(): Promise<boolean> {
  const { primary, standby } = await createPair(directory);
  ends.push(
    () => primary.kill('SIGQUIT'),
    () => standby.kill('SIGQUIT'),
  );
  const database = createDatabase({ connectionString: primary.url, limited: false });
  await migrate(database.knex);
  await database.close();
  const door = await createDoor({ hostname: '127.0.0.1', port: String(primary.port) });
  const env = {
    DATABASE_URL: door.urlOf(primary.url),
    DATA_DIR: join(directory, 'server'),
    KEY_ENCRYPTION_KEY: randomBytes(32).toString('base64url'),
    ADMIN_CLIENT_SECRET: randomBytes(32).toString('base64url'),
    ISSUER: 'http://issuer.test',
    RATE_LIMITS: 'off',
    NODE_OPTIONS: '--import=./test/support/stray-error.ts',
  };
  const instances = [
    await createInstance('one', env, join(directory, 'one.log')),
    await createInstance('two', env, join(directory, 'two.log')),
  ] as const;
  for (const instance of instances) {
    ends.push(() => instance.end('SIGKILL'));
    await instance.start();
  }
  const { floodToken, ...prepared } = await prepare(instances[0].url, env.ADMIN_CLIENT_SECRET);
  const load = startLoad({ instances, ...prepared });
  await setTimeout(3_000);
  const warm = load.take();
  if (warm.wrong.length > 0) throw new Error(`wrong before anything happened: ${warm.wrong[0]}`);

  const scene: Scene = { primary, standby, door, instances, load, floodToken };
  const rows: Row[] = [];
  let present = primary;
  for (const fault of faults) {
    if (options.only && !fault.name.includes(options.only)) continue;
    process.stderr.write(`${fault.name} …\n`);
    rows.push(await suffer(fault, scene, () => present.query));
    if (fault.name.startsWith('failover')) present = standby;
    process.stderr.write(`  ${describe(rows.at(-1) as Row)}\n`);
  }
  await load.stop();
  const memory = await Promise.all(instances.map((instance) => instance.memory()));
  const codes = [await instances[0].end('SIGTERM'), await instances[1].end('SIGTERM')];
  const final = await verify(present.query, load.ledger);
  const text = `${table(rows)}\n\n${notes(rows, memory, load.ledger.created.size, load.ledger.revoked.size)}`;
  process.stdout.write(`${text}\n`);
  if (options.write) await record(text);
  const isWell = rows.every(isKept) && final.lost.length + final.orphans.length === 0;
  if (codes.some((code) => code !== 0)) process.stderr.write(`the instances ended with ${codes}\n`);
  return !isWell || codes.some((code) => code !== 0);

  async function suffer(fault: Fault, at: Scene, query: () => typeof primary.query): Promise<Row> {
    let note: string | undefined;
    let thrown: unknown;
    try {
      note = await fault.happen(at);
    } catch (error) {
      thrown = error;
    }
    const mended = performance.now();
    const tally = load.present();
    do await setTimeout(100);
    while (
      (performance.now() - Math.max(tally.lastFailure, mended) < calmMs || load.waitsSince(mended)) &&
      performance.now() - mended < recoveryLimitMs + calmMs
    );
    if (fault.name.startsWith('failover')) present = standby;
    const verdict = await verify(query(), load.ledger);
    if (thrown) tally.wrong.push(`${fault.name}: ${thrown instanceof Error ? thrown.message : thrown}`);
    load.take();
    return { fault: fault.name, tally, verdict, recoveryMs: Math.max(0, tally.lastFailure - mended), note };
  }
}

async function prepare(url: string, secret: string) {
  const basic = Buffer.from(`admin:${secret}`).toString('base64');
  const granted = await fetch(`${url}/oauth/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${basic}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'admin' }),
  });
  const { access_token: adminToken } = (await granted.json()) as { access_token: string };
  const call = async (
    method: string,
    path: string,
    body: unknown,
  ): Promise<{ id: string; token: string }> => {
    const headers = { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' };
    const response = await fetch(`${url}/admin${path}`, { method, headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as { id: string; token: string };
  };
  const service = 'faults';
  const audience = 'https://faults.example.com';
  await call('POST', '/services', { id: service, name: 'Faults', audience, scopes: ['faults:read'] });
  const { id: organizationId } = await call('POST', '/organizations', { name: 'Faults' });
  const users: string[] = [];
  for (let index = 0; index < clients; index += 1) {
    const { id } = await call('POST', '/users', { email: `user${index}@example.com`, name: `User ${index}` });
    await call('PUT', `/organizations/${organizationId}/members/${id}`, { role: 'member' });
    users.push(id);
  }
  const owner = { service, organization_id: organizationId, user_id: users[0] };
  const { token: floodToken } = await call('POST', '/tokens', { name: 'flood', ...owner });
  return { adminToken, organizationId, service, users, floodToken };
}

function isKept({ tally, verdict, recoveryMs }: Row): boolean {
  const faultless = tally.wrong.length + verdict.lost.length + verdict.orphans.length === 0;
  return faultless && recoveryMs <= recoveryLimitMs;
}

function describe({ tally, verdict, recoveryMs, note }: Row): string {
  return [
    `${tally.requests} requests, ${tally.good} good, ${tally.refused} refused, ${tally.cut} cut, ${tally.wrong.length} wrong,`,
    `${verdict.lost.length} lost, ${verdict.orphans.length} orphans, ${verdict.unseen} unseen, longest ${(tally.longest / 1000).toFixed(1)} s, well after ${(recoveryMs / 1000).toFixed(1)} s`,
    note ?? '',
    ...[...tally.wrong.slice(0, 5), ...verdict.lost.slice(0, 3), ...verdict.orphans.slice(0, 3)].map(
      (one) => `\n    ${one}`,
    ),
  ].join(' ');
}

function table(rows: readonly Row[]): string {
  const head = [
    'fault',
    'requests',
    'good',
    'refused',
    'cut',
    'wrong',
    'lost',
    'orphans',
    'longest answer',
    'well again after',
  ];
  const cells = rows.map(({ fault, tally, verdict, recoveryMs }) => [
    fault,
    ...[tally.requests, tally.good, tally.refused, tally.cut].map((count) => count.toLocaleString('en')),
    ...[tally.wrong.length, verdict.lost.length, verdict.orphans.length].map(String),
    `${(tally.longest / 1000).toFixed(1)} s`,
    `${(recoveryMs / 1000).toFixed(1)} s`,
  ]);
  const line = (row: readonly string[]) => `| ${row.join(' | ')} |`;
  return [line(head), line(head.map((_, index) => (index === 0 ? '---' : '--:'))), ...cells.map(line)].join(
    '\n',
  );
}

function notes(rows: readonly Row[], memory: readonly number[], created: number, revoked: number): string {
  const unseen = rows.at(-1)?.verdict.unseen ?? 0;
  return [
    `On ${availableParallelism()} cores, with ${clients} clients. ${created.toLocaleString('en')} tokens were shown and ${revoked.toLocaleString('en')} revoked;`,
    `${unseen} tokens hold whose answer went down with a killed instance.`,
    `The instances had ${memory.map((size) => `${Math.round(size)} MB`).join(' and ')} of memory at the end.`,
    ...rows.flatMap(({ fault, note }) => (note ? [`\n\n${fault}: ${note}.`] : [])),
  ].join(' ');
}

async function record(text: string): Promise<void> {
  const before = await readFile(page, 'utf8');
  const [start, end] = [before.indexOf(marks[0]) + marks[0].length, before.indexOf(marks[1])];
  await writeFile(page, `${before.slice(0, start)}\n\n${text}\n\n${before.slice(end)}`);
}
