import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import type { Knex } from 'knex';
import pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import { policy } from '../config/policy.ts';
import { createToken } from '../server/admin/tokens.ts';
import { statusListSize } from '../server/domain/status-list.ts';
import { systemEvent } from '../server/storage/audit-events.ts';
import type { Database } from '../server/storage/database.ts';
import { createExchangeEvents } from '../server/storage/exchange-events.ts';
import {
  type RevokedToken,
  type TokenFilter,
  type TokenSort,
  tokenSorts,
  type Visibility,
} from '../server/storage/platform-tokens.ts';
import { deletions } from '../server/storage/retention.ts';
import { type Revocation, revokeWithTrail } from '../server/storage/revocation.ts';
import { createStores, type Stores } from '../server/storage/stores.ts';
import { measureExchanges } from './growth-exchange.ts';
import { digestOf, type Grown, searches, startGrown } from './growth-fixture.ts';
import { services } from './lists-fixture.ts';
import { Cleanup, run, say } from './stage.ts';
import { median, table } from './statistics.ts';

/**
 * What each operation costs at the database as the tokens become more. The server's own functions run; the statements that
 * they send are then explained with EXPLAIN ANALYZE, in a transaction that is rolled back, and what PostgreSQL says about
 * planning and execution is summed up. So caches are warm, and neither the network nor the server counts.
 */

const limitMs = 20;
const newest = { by: 'created_at', descending: true } as { by: TokenSort; descending: boolean };
const samples = 9;
const lookups = 2_000;

interface Statement {
  readonly sql: string;
  readonly bindings: readonly unknown[];
}

interface Operation {
  readonly title: string;
  /** Held against the limit at the largest size. */
  readonly limited: boolean;
  readonly statements: (sample: number) => Promise<Statement[]>;
}

interface Measured {
  readonly title: string;
  readonly limited: boolean;
  /** Median, planning and execution. */
  readonly ms: number;
  /** Median, blocks of 8 KiB that were looked at. */
  readonly blocks: number;
  readonly plan: string;
}

async function main(cleanup: Cleanup): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      sizes: { type: 'string', default: '1000,1000000,10000000' },
      only: { type: 'string', default: '' },
      json: { type: 'boolean', default: false },
      plans: { type: 'string' },
      exchange: { type: 'boolean', default: false },
    },
  });
  const sizes = values.sizes.split(',').map(Number);
  if (!sizes.every((size) => Number.isInteger(size) && size >= 100 && size <= 100_000_000))
    throw new Error('--sizes must be numbers from 100 to 100000000');
  if (values.exchange) return measureExchanges(sizes, cleanup);
  const results = new Map<number, Measured[]>();
  for (const size of sizes) {
    const ended = new Cleanup();
    cleanup.add(() => ended.run());
    results.set(size, await measureSize(size, values.only, ended));
    await ended.run();
  }
  const failures = misses(results);
  if (values.plans) await writeFile(values.plans, plansOf(results));
  const print = values.json
    ? JSON.stringify({ sizes: withoutPlans(results), failures }, null, 2)
    : [printTable(results), '', ...failures, `${failures.length} targets missed.`].join('\n');
  process.stdout.write(`${print}\n`);
  return failures.length === 0;
}

async function measureSize(size: number, only: string, cleanup: Cleanup): Promise<Measured[]> {
  const { connectionString, database, grown, migrations } = await startGrown(size, cleanup);
  const measured: Measured[] = migrations.map(({ name, ms }) => ({
    title: `migration ${name}`,
    limited: false,
    ms,
    blocks: 0,
    plan: '',
  }));

  const client = new pg.Client({ connectionString });
  await client.connect();
  cleanup.add(() => client.end());
  for (const keys of [1, 16]) measured.push(...(await measureLookup(database, client, grown, keys)));
  for (const operation of (await operations(database, grown)).filter(({ title }) => title.includes(only))) {
    const one = await measure(client, operation);
    say(`${one.title}: ${one.ms.toFixed(2)} ms`);
    measured.push(one);
  }
  return measured;
}

/** The same rows in every run, without an order. */
const chosen = (sample: number, of: number): number => (sample * 7_368_787 + 1_299_709) % of;

/**
 * Each time other tokens: once as the server waits for it, with the way to the database and back, and once as PostgreSQL
 * reckons its execution, by a plan that is made once, as the server's is.
 */
async function measureLookup(
  database: Database,
  client: pg.Client,
  { tokens }: Grown,
  keys: number,
): Promise<Measured[]> {
  const title = `exchange look-up of ${keys}`;
  const choose = (sample: number) =>
    Array.from({ length: keys }, (_, n) => chosen(sample * keys + n, tokens));
  const { platformTokens } = createStores(database, () => {});
  const waited: number[] = [];
  for (let sample = 0; sample < 2 * lookups; sample += 1) {
    const digests = choose(sample).map((token) => createHash('sha256').update(`growth ${token}`).digest());
    const start = performance.now();
    const found = await Promise.all(digests.map(platformTokens.findForExchange));
    waited.push(performance.now() - start);
    if (!found.every((one) => one?.statusIndex !== undefined)) throw new Error('a token was not found');
  }

  const name = `lookup_${keys}`;
  await client.query(`PREPARE ${name} (bytea[]) AS ${await lookupStatement(database)}`);
  const explain = (options: string, sample: number) => {
    const digests = choose(sample).map(digestOf);
    return client.query(`EXPLAIN (ANALYZE, BUFFERS${options}) EXECUTE ${name} (ARRAY[${digests}])`);
  };
  const found: Cost[] = [];
  for (let sample = 0; sample < 2 * lookups; sample += 1)
    found.push(costOf(await explain(', TIMING OFF, FORMAT JSON', sample)));
  const plan = textOf(await explain('', 2 * lookups));
  // The first half warms the caches.
  const server = { title: `${title}, for the server`, limited: false, blocks: 0, plan: '' };
  return [
    { ...server, ms: median(waited.slice(lookups)) },
    { title, limited: false, ...medians(found.slice(lookups)), plan },
  ];
}

async function measure(client: pg.Client, { title, limited, statements }: Operation): Promise<Measured> {
  const found: Cost[] = [];
  let plan = '';
  for (let sample = 0; sample < samples; sample += 1) {
    const sent = await statements(sample);
    await client.query('BEGIN');
    let [ms, blocks] = [0, 0];
    for (const { sql, bindings } of sent) {
      const cost = costOf(
        await client.query(`EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) ${sql}`, [...bindings]),
      );
      ms += cost.ms;
      blocks += cost.blocks;
    }
    await client.query('ROLLBACK');
    found.push({ ms, blocks });
    if (sample < samples - 1) continue;
    await client.query('BEGIN');
    for (const { sql, bindings } of sent)
      plan += `${sql}\n${textOf(await client.query(`EXPLAIN (ANALYZE, BUFFERS) ${sql}`, [...bindings]))}\n`;
    await client.query('ROLLBACK');
  }
  return { title, limited, ...medians(found), plan };
}

interface Cost {
  readonly ms: number;
  readonly blocks: number;
}

function costOf({ rows: [row] }: pg.QueryResult): Cost {
  const [explained] = row['QUERY PLAN'];
  const { Plan: plan, 'Planning Time': planning, 'Execution Time': execution } = explained;
  return {
    ms: planning + execution,
    blocks: plan['Shared Hit Blocks'] + plan['Shared Read Blocks'],
  };
}

const textOf = ({ rows }: pg.QueryResult): string => rows.map((row) => row['QUERY PLAN']).join('\n');
const medians = (costs: readonly Cost[]): Cost => ({
  ms: median(costs.map(({ ms }) => ms)),
  blocks: median(costs.map(({ blocks }) => blocks)),
});

async function operations({ knex, ...rest }: Database, grown: Grown): Promise<Operation[]> {
  const stores = createStores({ knex, ...rest }, () => {});
  const { platformTokens, statusLists } = stores;
  const now = new Date();
  const digests = Array.from({ length: samples }, (_, sample) => digestOf(chosen(sample, grown.tokens)));
  const { rows: tokens } = await knex.raw(
    `SELECT id, user_id, organization_id FROM platform_tokens WHERE digest IN (${digests})`,
  );
  const token = (sample: number) => tokens[sample % tokens.length];
  // Anywhere in the table: ids begin with their time.
  const { rows: used } = await knex.raw(
    `SELECT id FROM platform_tokens WHERE digest IN (${Array.from({ length: 50 * samples }, (_, n) => digestOf(chosen(n + samples, grown.tokens)))})`,
  );
  const organization = (sample: number) =>
    grown.organizations[chosen(sample, grown.organizations.length)] as string;
  const admin = (id: string): Visibility => ({ all: false, userId: uuidv7(), memberOf: [id], adminOf: [id] });
  const page = { limit: 50 };
  const list = (visibility: Visibility, filter: TokenFilter = {}, sort = newest) =>
    platformTokens.list(visibility, { statuses: ['active', 'expired'], ...filter }, sort, page, now);
  const reading = (title: string, work: (sample: number) => Promise<unknown>, limited = true): Operation => ({
    title,
    limited,
    statements: (sample) => sentBy(knex, () => work(sample)),
  });
  const writing = (
    title: string,
    work: (transaction: Knex.Transaction, sample: number) => Promise<unknown>,
    limited = true,
  ): Operation =>
    reading(title, (sample) => rolledBack(knex, (transaction) => work(transaction, sample)), limited);

  const viewers: [string, (sample: number) => Visibility][] = [
    ['an organization', (sample) => admin(organization(sample))],
    ['a small one', () => admin(grown.smallId)],
    ['all', () => ({ all: true })],
  ];
  const all: Visibility = { all: true };
  return [
    ...viewers.flatMap(([whose, visibility]) =>
      tokenSorts.flatMap((by) =>
        [false, true].map((descending) =>
          reading(`list of ${whose}, ${descending ? '-' : ''}${by}`, (sample) =>
            list(visibility(sample), {}, { by, descending }),
          ),
        ),
      ),
    ),
    ...(['active', 'expired', 'revoked'] as const).map((status) =>
      reading(`list of all, ${status}`, () => list(all, { statuses: [status] })),
    ),
    reading('list of all, of a service', (sample) =>
      list(all, { services: [services[sample % services.length] as string] }),
    ),
    ...viewers.flatMap(([whose, visibility]) =>
      Object.entries(searches).map(([many, nameContains]) =>
        reading(`search of ${whose}, ${many}`, (sample) => list(visibility(sample), { nameContains })),
      ),
    ),
    reading('limit count', (sample) =>
      platformTokens.countActive(token(sample).user_id, token(sample).organization_id, now),
    ),
    writing('creation', (transaction, sample) => create(stores, transaction, grown, now, sample)),
    writing('revocation', (transaction, sample) =>
      revoke(stores, { ids: [token(sample).id] }, now, transaction),
    ),
    writing('last use of 50 tokens, with their events', (transaction, sample) => {
      const one = token(sample);
      const events = Array.from({ length: 50 }, (_, n) => ({
        id: uuidv7(),
        at: new Date(),
        organizationId: one.organization_id,
        tokenId: used[(sample * 50 + n) % used.length]?.id as string,
        serviceId: services[0] as string,
        ip: '192.0.2.2',
        userAgent: 'bench',
        requestId: uuidv7(),
        count: 1,
      }));
      return createExchangeEvents(transaction).insert(events);
    }),
    writing(
      "revocation of an organization's tokens",
      (transaction, sample) => revoke(stores, { organizationId: organization(sample) }, now, transaction),
      false,
    ),
    writing(
      `retention, ${policy.retentionBatch} tokens`,
      (transaction) => transaction.raw(deletions[0], [now, policy.retentionBatch]),
      false,
    ),
    reading(
      'status list',
      (sample) => {
        const first = chosen(sample, Math.ceil(grown.tokens / statusListSize)) * statusListSize;
        return statusLists.read(first, first + statusListSize - 1);
      },
      false,
    ),
  ];
}

/** As the admin API makes one, for a user who may have more. */
function create(
  stores: Stores,
  transaction: Knex.Transaction,
  { smallId, ownerId }: Grown,
  now: Date,
  sample: number,
): Promise<unknown> {
  const deps = {
    ...stores,
    transaction: (work: (tx: Knex.Transaction) => unknown) => work(transaction),
    tokenPrefix: 'ptk',
    clock: () => now,
  };
  return createToken(
    deps as never,
    { organizationId: smallId, userId: ownerId },
    { name: `Token ${sample}`, service: services[0] as string },
    ({ id: tokenId, organizationId }) =>
      systemEvent('bench', { at: now, action: 'token.created', tokenId, organizationId }),
  );
}

function revoke(
  stores: Stores,
  choice: Revocation['choice'],
  at: Date,
  transaction: Knex.Transaction,
): Promise<unknown> {
  const event = ({ id: tokenId, organizationId }: RevokedToken) =>
    systemEvent('bench', { at, action: 'token.revoked', tokenId, organizationId });
  const revocation = { choice, visibility: { all: true }, actorId: 'bench', at, event } as const;
  return revokeWithTrail(stores, revocation, transaction);
}

/** What Knex sends while it works, without the beginnings and ends of transactions. */
async function sentBy(knex: Knex, work: () => Promise<unknown>): Promise<Statement[]> {
  const sent: Statement[] = [];
  const listen = ({ sql, bindings }: Statement) => {
    if (!/^(BEGIN|COMMIT|ROLLBACK|EXPLAIN)/.test(sql)) sent.push({ sql, bindings });
  };
  knex.on('query', listen);
  try {
    await work();
  } finally {
    knex.off('query', listen);
  }
  return sent;
}

async function rolledBack(
  knex: Knex,
  work: (transaction: Knex.Transaction) => Promise<unknown>,
): Promise<void> {
  const transaction = await knex.transaction();
  try {
    await work(transaction);
  } finally {
    await transaction.rollback();
  }
}

/** The statement of a look-up, which goes past Knex. */
async function lookupStatement(database: Database): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const lookups = {
    async query({ text }: { text: string }) {
      resolve(text);
      return { rows: [] };
    },
  };
  const { platformTokens } = createStores({ ...database, lookups: lookups as never }, () => {});
  await platformTokens.findForExchange(Buffer.alloc(32));
  return promise;
}

/** The growth of an exchange is held against its target by `--exchange`: a look-up is only part of it. */
function misses(results: ReadonlyMap<number, readonly Measured[]>): string[] {
  const largest = [...results.values()].at(-1) ?? [];
  return largest
    .filter(({ limited, ms }) => limited && ms > limitMs)
    .map(({ title, ms }) => `${title}: ${ms.toFixed(1)} ms, not under ${limitMs}`);
}

function printTable(results: ReadonlyMap<number, readonly Measured[]>): string {
  const titles = [...new Set([...results.values()].flat().map(({ title }) => title))];
  const cellsOf = (title: string, measured: readonly Measured[]) => {
    const one = measured.find((other) => other.title === title);
    if (!one) return ['', ''];
    return [one.ms.toFixed(one.ms < 10 ? 2 : 0), one.blocks ? String(Math.round(one.blocks)) : ''];
  };
  const columns = [...results.keys()].flatMap((size) => [`${size.toLocaleString('en')}, ms`, 'blocks']);
  const rows = titles.map((title) => [
    title,
    ...[...results.values()].flatMap((measured) => cellsOf(title, measured)),
  ]);
  return table(['operation', ...columns], rows);
}

const withoutPlans = (results: ReadonlyMap<number, readonly Measured[]>) =>
  Object.fromEntries(
    [...results].map(([size, measured]) => [size, measured.map(({ plan: _, ...one }) => one)]),
  );

const plansOf = (results: ReadonlyMap<number, readonly Measured[]>): string =>
  [...results]
    .flatMap(([size, measured]) => measured.map(({ title, plan }) => `## ${title}, ${size}\n\n${plan}\n`))
    .join('\n');

await run(main);
