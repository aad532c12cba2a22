import { randomBytes } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type Database } from '../../server/storage/database.ts';
import { deletions } from '../../server/storage/retention.ts';
import { createStores, type Stores } from '../../server/storage/stores.ts';
import { createTestDatabase } from '../support/harness.ts';

let database: Database;
let stores: Stores;
let unlimited: Database;
let drop: () => Promise<void>;
let row: { id: string; user_id: string; organization_id: string; service_id: string; digest: Buffer };
const failures: unknown[] = [];

beforeAll(async () => {
  let url: string;
  ({ database, url, drop } = await createTestDatabase());
  stores = createStores(database, (error) => failures.push(error));
  unlimited = createDatabase({ connectionString: url, limited: false });
  await unlimited.knex.raw(`
    INSERT INTO organizations SELECT gen_random_uuid(), 'O' || n, 'active', now() FROM generate_series(1, 50) n;
    INSERT INTO users SELECT gen_random_uuid(), n || '@example.com', 'U' || n, 'person', NULL, 'active', now() FROM generate_series(1, 1000) n;
    INSERT INTO services SELECT 's' || n, 'S' || n, 'https://s' || n, '{read}', 'active', now() FROM generate_series(1, 40) n;
    INSERT INTO memberships SELECT o.id, u.id, 'member', now()
      FROM (SELECT id, row_number() OVER () n FROM organizations) o JOIN (SELECT id, row_number() OVER () n FROM users) u ON u.n % 50 + 1 = o.n;
    INSERT INTO users SELECT gen_random_uuid(), 'x' || n || '@example.com', 'X' || n, 'person', NULL, 'active', now() FROM generate_series(1, 20000) n;
    INSERT INTO platform_tokens (id, organization_id, user_id, service_id, name, digest, hint, scopes, created_at, expires_at)
      SELECT gen_random_uuid(), m.organization_id, m.user_id, 's' || (1 + n % 40), 'T' || n, sha256(n::text::bytea), 'ptk_abcd', '{read}',
        now() - n * interval '1 minute', now() - n * interval '1 minute' + interval '730 days'
      FROM generate_series(1, 20000) n JOIN (SELECT *, row_number() OVER () k FROM memberships) m ON m.k = 1 + n % 1000;
    INSERT INTO audit_events (id, at, action, actor_type, actor_id, organization_id, token_id)
      SELECT gen_random_uuid(), t.created_at, 'token.created', 'user', t.user_id, t.organization_id, t.id
      FROM platform_tokens t, generate_series(1, 2) n;
    INSERT INTO exchange_events (id, at, organization_id, token_id, service_id)
      SELECT gen_random_uuid(), now() - (k * 20 || ' seconds')::interval, organization_id, id, service_id
      FROM (SELECT *, row_number() OVER () k FROM platform_tokens) t, generate_series(1, 2) n;
  `);
  await unlimited.knex.raw('ANALYZE');
  row = await database.knex('platform_tokens').offset(7777).first();
}, 120_000);
afterAll(async () => {
  expect(failures).toEqual([]);
  await stores.usage.close();
  await unlimited.close();
  await drop();
});

/** The plans of the very statements that a call of the store sends. */
async function plansOf(work: () => Promise<unknown>, table = 'platform_tokens'): Promise<string> {
  const statements: { sql: string; bindings: readonly unknown[] }[] = [];
  const listen = ({ sql, bindings }: { sql: string; bindings: readonly unknown[] }) =>
    void statements.push({ sql, bindings });
  database.knex.on('query', listen);
  const { query } = database.lookups;
  database.lookups.query = ((config: { text: string; values: unknown[] }) => {
    statements.push({ sql: config.text, bindings: config.values });
    return Reflect.apply(query, database.lookups, [config]);
  }) as never;
  try {
    await work();
  } finally {
    database.knex.off('query', listen);
    database.lookups.query = query;
  }
  const plans: string[] = [];
  for (const { sql, bindings } of statements.filter(
    (statement) => statement.sql.includes(table) && !statement.sql.startsWith('EXPLAIN'),
  )) {
    const { rows } = await database.lookups.query(`EXPLAIN ${sql}`, [...bindings]);
    plans.push(rows.map((line) => line['QUERY PLAN']).join('\n'));
  }
  expect(plans.length).toBeGreaterThan(0);
  return plans.join('\n');
}
const page = { limit: 50 };
const ours = () => row.organization_id;
const newest = { by: 'created_at', descending: true } as const;
const list = (visibility: Parameters<Stores['platformTokens']['list']>[0], filter = {}) =>
  stores.platformTokens.list(
    visibility,
    { statuses: ['active', 'expired'], ...filter },
    newest,
    page,
    new Date(),
  );

it("plans the exchange's look-up once a connection, however few keys it has", async () => {
  const plannings = async () => {
    const { rows } = await database.lookups.query(
      "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name = 'platform-tokens-by-digest'",
    );
    return rows[0];
  };
  // PostgreSQL plans the first five by their values, and then compares.
  for (let n = 0; n < 6; n += 1) await stores.platformTokens.findForExchange(row.digest);
  const { custom_plans: custom } = await plannings();
  for (let n = 0; n < 20; n += 1) await stores.platformTokens.findForExchange(row.digest);
  const after = await plannings();
  expect(after.custom_plans).toBe(custom);
  expect(Number(after.generic_plans)).toBeGreaterThanOrEqual(20);
});

it('counts the tokens of a status by an index where there are few of it, and stops where there are many', async () => {
  const now = new Date();
  const plans = await plansOf(() => stores.platformTokens.countByStatus(now));
  // Of 20,000 active ones it reads no more than it counts; the others are looked for where there are only such.
  expect(plans.match(/Seq Scan/g) ?? []).toHaveLength((plans.match(/Limit[^\n]*rows=10001/g) ?? []).length);
  for (const index of ['platform_tokens_expires', 'platform_tokens_revoked']) expect(plans).toContain(index);
  const { active, expired, revoked } = await stores.platformTokens.countByStatus(now);
  expect([expired, revoked]).toEqual([0, 0]);
  expect(Math.abs(active - 20_000)).toBeLessThan(2_000);
});

it('searches over all organizations by an index on parts of the name', async () => {
  const plans = await plansOf(() => list({ all: true }, { nameContains: 'T777' }));
  // Once: the page and its total are of what that found.
  expect(plans.match(/platform_tokens_name_trigrams/g)).toHaveLength(1);
  expect(plans).not.toMatch(/Seq Scan on platform_tokens/);
});

it("joins the exchange's look-up by keys, however few rows there are", async () => {
  expect(await plansOf(() => stores.platformTokens.findForExchange(row.digest))).not.toMatch(
    /Hash|Merge|Seq Scan on (users|memberships)/,
  );
});

describe('none reads all of platform_tokens:', () => {
  it.each<[string, () => Promise<unknown>]>([
    ["the exchange's look-up", () => stores.platformTokens.findForExchange(row.digest)],
    ["introspection's look-up", () => stores.platformTokens.findPresent(row.id)],
    ['one token', () => stores.platformTokens.find(row.id, { all: true })],
    [
      "a user's list",
      () => list({ all: false, userId: row.user_id, memberOf: [row.organization_id], adminOf: [] }),
    ],
    ['a list by user', () => list({ all: true }, { userId: row.user_id })],
    ['a list by organization', () => list({ all: true }, { organizationId: row.organization_id })],
    ['a list by service', () => list({ all: true }, { services: [row.service_id] })],
    [
      'the count for the limit',
      () => stores.platformTokens.countActive(row.user_id, row.organization_id, new Date()),
    ],
    ['visible ids', () => stores.platformTokens.visibleIds([row.id, uuidv7()], { all: true })],
    [
      'revoking by id',
      () =>
        database.knex.transaction((tx) =>
          stores.platformTokens.revoke(
            { ids: [row.id] },
            { all: true },
            { actorId: 'x', at: new Date() },
            tx,
          ),
        ),
    ],
    [
      'revoking by user',
      () =>
        database.knex.transaction((tx) =>
          stores.platformTokens.revoke(
            { userId: row.user_id },
            { all: true },
            { actorId: 'x', at: new Date() },
            tx,
          ),
        ),
    ],
    ['a status list', () => stores.statusLists.read(131_072, 262_143)],
    [
      'what expires',
      () =>
        database
          .knex('platform_tokens')
          .whereNull('revoked_at')
          .where('expires_at', '<', new Date())
          .select('id'),
    ],
  ])('%s', async (_, work) => {
    expect(await plansOf(work)).not.toMatch(/Seq Scan on platform_tokens/);
  });

  describe.each([
    ['name', 'platform_tokens_organization_name'],
    ['created_at', 'platform_tokens_organization_created'],
    ['last_used_at', 'platform_token_uses_organization'],
  ] as const)("an organization's tokens by %s, in the order of an index", (by, index) => {
    it.each<[string, () => [Parameters<Stores['platformTokens']['list']>[0], object]]>([
      ['for its admin', () => [{ all: false, userId: uuidv7(), memberOf: [], adminOf: [ours()] }, {}]],
      [
        'for its admin, a member too',
        () => [{ all: false, userId: uuidv7(), memberOf: [ours()], adminOf: [ours()] }, {}],
      ],
      ['by a filter', () => [{ all: true }, { organizationId: ours() }]],
    ])('%s', async (_, choice) => {
      const [visibility, filter] = choice();
      const sort = { by, descending: true };
      const work = () =>
        stores.platformTokens.list(
          visibility,
          { statuses: ['active', 'expired'], ...filter },
          sort,
          page,
          new Date(),
        );
      const plans = await plansOf(work);
      expect(plans).toMatch(new RegExp(`using ${index}`));
      // None is sorted but the page.
      expect(
        plans.match(/Sort {2}\(cost=\S+ rows=(\d+)/g)?.filter((sort) => !/rows=\d\d?$/.test(sort)) ?? [],
      ).toEqual([]);
    });
  });

  it('the tokens of all by last use, in the order of an index', async () => {
    const sort = { by: 'last_used_at', descending: true } as const;
    const work = () =>
      stores.platformTokens.list({ all: true }, { statuses: ['active'] }, sort, page, new Date());
    expect(await plansOf(work)).toMatch(/using platform_token_uses_latest/);
  });

  it.each([
    [0, 'platform_tokens_expires'],
    [1, 'platform_tokens_revoked'],
  ])('what the sweep deletes', async (which, index) => {
    const work = () => database.knex.raw(deletions[which] as string, [new Date(0), 1000]).then();
    expect(await plansOf(work)).toMatch(new RegExp(`(using|on) ${index}`));
  });

  it('a check that would notice one', async () => {
    expect(
      await plansOf(() => database.knex('platform_tokens').where({ hint: 'x' }).select('id').then()),
    ).toMatch(/Seq Scan on platform_tokens/);
  });

  it("the last use's write, which is none to the token", async () => {
    const at = new Date();
    stores.usage.record({
      at,
      organizationId: row.organization_id,
      tokenId: row.id,
      serviceId: row.service_id,
      ip: '192.0.2.1',
      userAgent: null,
      requestId: null,
    });
    const plans = await plansOf(() => stores.usage.close(), 'platform_token_uses');
    expect(plans).toMatch(/Index Scan|Bitmap/);
    expect(plans).not.toMatch(/Seq Scan on platform_token|platform_tokens/);
  });
});

describe('none reads all memberships, or all users:', () => {
  const members = (filter: Parameters<Stores['memberships']['listMembers']>[1]) =>
    stores.memberships.listMembers(row.organization_id, filter, page);
  it.each<[string, () => Promise<unknown>]>([
    ["an organization's members", () => members({})],
    ['members by name or e-mail', () => members({ text: 'u1' })],
    ['members by user', () => members({ userIds: [row.user_id, uuidv7()] })],
    ["a user's memberships", () => stores.memberships.listForUser(row.user_id)],
  ])('%s', async (_, work) => {
    expect(await plansOf(work, 'memberships')).not.toMatch(/Seq Scan on (memberships|users)/);
  });
});

describe('none reads the events of every organization:', () => {
  const trail = (
    visibility: Parameters<Stores['auditEvents']['list']>[0],
    filter: Parameters<Stores['auditEvents']['list']>[1] = {},
  ) => stores.auditEvents.list(visibility, filter, page);
  const user = (more: { memberOf: string[]; adminOf: string[] }) =>
    ({ all: false, userId: row.user_id, ...more }) as const;
  const own = () => [row.organization_id];
  const inFull = /Seq Scan on (audit|exchange)_events_(default|\d{4}_\d{2})/;
  // Of a month that is empty PostgreSQL reads all, which is nothing.
  const isEmpty = (plan: string) => plan.replace(/Seq Scan on \S+ \S+ {2}\(cost=\S+ rows=1 width.*/g, '');
  it.each<[string, () => Promise<unknown>]>([
    ["an admin's trail", () => trail(user({ memberOf: own(), adminOf: own() }))],
    ["a member's trail", () => trail(user({ memberOf: own(), adminOf: [] }))],
    ["a token's trail", () => trail(user({ memberOf: own(), adminOf: own() }), { tokenId: row.id })],
    ["a member's token's trail", () => trail(user({ memberOf: own(), adminOf: [] }), { tokenId: row.id })],
    ["an organization's trail", () => trail({ all: true }, { organizationId: row.organization_id })],
    ["an actor's trail", () => trail({ all: true }, { actorId: row.user_id })],
    ["a token's own exchanges", () => trail({ all: true }, { actorId: row.id })],
  ])('%s', async (_, work) => {
    const plans = isEmpty(await plansOf(work, 'audit_trail'));
    expect(plans).not.toMatch(inFull);
    // In the order of time it would read every organization's until it has found enough; by id and time it finds one.
    expect(plans).not.toMatch(
      /Scan using (audit_events_(default|\d{4}_\d{2})_at_id_idx|exchange_events_\w+_pkey) .*\n(?!.*Index Cond: \(\(at = )/,
    );
  });

  it('the trail of an admin here and a member there', async () => {
    const { id } = await database.knex('organizations').whereNot({ id: row.organization_id }).first('id');
    const work = () => trail(user({ memberOf: [...own(), id], adminOf: [id] }));
    expect(isEmpty(await plansOf(work, 'audit_trail'))).not.toMatch(inFull);
  });

  it('the newest of all, each table by its index', async () => {
    const plans = await plansOf(() => trail({ all: true }), 'audit_trail');
    expect(plans).toMatch(/Merge Append/);
    expect(plans).toMatch(/using audit_events_\d{4}_\d{2}_at_id_idx/);
    expect(plans).toMatch(/using exchange_events_\d{4}_\d{2}_pkey/);
  });

  it('what happened to tokens, without the exchanges', async () => {
    const plans = await plansOf(() => trail({ all: true }, { action: 'token.created' }), 'audit_trail');
    const [count] = plans.split('\nSort');
    expect(count).toContain('on audit_events');
    expect(count).not.toContain('exchange_events');
  });
});

describe('the total', () => {
  const everything = { all: true } as const;
  let other: typeof row;
  beforeAll(async () => {
    // Of whom nothing was revoked above.
    other = await database
      .knex('platform_tokens')
      .whereNot({ organization_id: row.organization_id })
      .whereNot({ service_id: row.service_id })
      .first();
  });
  it('of all organizations is an estimate where there are many, exact where there are few', async () => {
    const { total } = await list(everything);
    expect(total).toBeGreaterThan(18_000);
    expect(total).toBeLessThan(22_000);
    expect((await list(everything, { services: [other.service_id] })).total).toBe(500);
    expect((await list(everything, { nameContains: 'no such name' })).total).toBe(0);
    expect((await list(everything, { nameContains: 'T777' })).total).toBe(11);
    const ofMany = (await list(everything, { nameContains: 'T1' })).total;
    expect(ofMany).toBeGreaterThan(1_000);
    expect(ofMany).toBeLessThan(22_000);
  });

  it('of an organization and of a user is exact', async () => {
    const { rows } = await database.knex.raw(
      'SELECT count(*)::int AS total FROM platform_tokens WHERE organization_id = ?',
      [other.organization_id],
    );
    expect((await list(everything, { organizationId: other.organization_id })).total).toBe(rows[0].total);
    expect((await list(everything, { userId: other.user_id })).total).toBe(20);
  });

  it('of events likewise: an estimate above the bound, whoever asks', async () => {
    const { total } = await stores.auditEvents.list(everything, {}, page);
    expect(total).toBeGreaterThan(72_000);
    expect(total).toBeLessThan(88_000);
    expect((await stores.auditEvents.list(everything, { tokenId: other.id }, page)).total).toBe(4);
  });
});

describe('the constraints refuse', () => {
  const id = () => uuidv7();
  const now = new Date();
  const token = (more: object) => () =>
    database.knex('platform_tokens').insert({
      id: id(),
      organization_id: row.organization_id,
      user_id: row.user_id,
      service_id: row.service_id,
      name: 'n',
      digest: randomBytes(32),
      hint: 'ptk_',
      scopes: [],
      created_at: now,
      expires_at: new Date(now.getTime() + 1),
      ...more,
    });
  const user = (more: object) => () =>
    database
      .knex('users')
      .insert({ id: id(), email: `${id()}@x`, name: 'n', kind: 'person', created_at: now, ...more });
  const service = (more: object) => () =>
    database
      .knex('services')
      .insert({ id: id(), name: 'n', audience: id(), scopes: [], created_at: now, ...more });
  const event = (more: object) => () =>
    database
      .knex('audit_events')
      .insert({ id: id(), at: now, action: 'a.b', actor_type: 'user', actor_id: 'x', ...more });

  it.each<[string, string, () => () => Promise<unknown>]>([
    ['a digest of 31 bytes', '23514', () => token({ digest: randomBytes(31) })],
    ['a digest that is there', '23505', () => token({ digest: row.digest })],
    ['an empty token name', '23514', () => token({ name: '' })],
    ['a token name of 101 characters', '23514', () => token({ name: 'x'.repeat(101) })],
    ['a hint of 9 characters', '23514', () => token({ hint: 'ptk_abcde' })],
    ['an expiry before creation', '23514', () => token({ expires_at: now })],
    ['revoked by nobody', '23514', () => token({ revoked_at: now })],
    ['revoked never', '23514', () => token({ revoked_by: 'x' })],
    ['a token of no user', '23503', () => token({ user_id: id() })],
    ['a token of no organization', '23503', () => token({ organization_id: id() })],
    ['a token of no service', '23503', () => token({ service_id: 'nowhere' })],
    ['an e-mail address in another case', '23505', () => user({ email: '1@EXAMPLE.com' })],
    ['another kind of user', '23514', () => user({ kind: 'robot' })],
    ['another status', '23514', () => user({ status: 'deleted' })],
    [
      'a service account with a password',
      '23514',
      () => user({ kind: 'service_account', password_hash: 'x' }),
    ],
    ['a service id that is no slug', '23514', () => service({ id: '-a' })],
    ['an audience twice', '23505', () => service({ audience: 'https://s1' })],
    [
      'another role',
      '23514',
      () => () =>
        database.knex('memberships').insert({
          organization_id: row.organization_id,
          user_id: row.user_id,
          role: 'owner',
          created_at: now,
        }),
    ],
    [
      'a client secret that is no SHA-256',
      '23514',
      () => () =>
        database.knex('clients').insert({
          id: id(),
          name: 'n',
          secret_digest: Buffer.from('secret'),
          grant_types: [],
          scopes: [],
          redirect_uris: [],
          created_at: now,
        }),
    ],
    [
      'an artifact under its own value',
      '23514',
      () => () =>
        database
          .knex('oidc_artifacts')
          .insert({ kind: 'x', id_digest: Buffer.from('value'), payload: '', expires_at: now }),
    ],
    ['an action that is none', '23514', () => event({ action: 'Deleted' })],
    ['an actor that is none', '23514', () => event({ actor_type: 'god' })],
  ])('%s', async (_, code, insert) => {
    await expect(insert()()).rejects.toMatchObject({ code });
  });

  it('nothing of a good row', async () => {
    for (const insert of [token({}), user({}), service({}), event({})])
      await expect(insert()).resolves.toBeDefined();
  });
});

// Last, as it changes what the others read.
describe('the expired tokens of all, in the order of creation,', () => {
  const now = new Date();
  const expired = (limit: number) =>
    stores.platformTokens.list({ all: true }, { statuses: ['expired'] }, newest, { limit }, now);
  const setLife = (column: string, where: string) =>
    unlimited.knex.raw(`UPDATE platform_tokens SET ${column} WHERE ${where}`);
  beforeAll(async () => {
    await setLife("created_at = created_at - interval '1 year' * (1 + status_index % 3)", 'true');
    await database.knex.raw('ANALYZE platform_tokens');
  });

  it('begin where what is active ends', async () => {
    await setLife("expires_at = created_at + interval '730 days'", 'true');
    await database.knex.raw('ANALYZE platform_tokens');
    expect(await plansOf(() => expired(50))).toMatch(
      /using platform_tokens_created.*\n *Index Cond: \(created_at <=/,
    );
  });

  it('are all of them, whatever their lives were', async () => {
    await setLife("expires_at = created_at + interval '1 second'", 'status_index % 1000 = 7');
    const ids = await database
      .knex('platform_tokens')
      .whereNull('revoked_at')
      .where('expires_at', '<=', now)
      .orderBy([
        { column: 'created_at', order: 'desc' },
        { column: 'id', order: 'desc' },
      ])
      .pluck('id');
    const found: string[] = [];
    let cursor: Awaited<ReturnType<typeof expired>>['next'];
    do {
      const read = await stores.platformTokens.list(
        { all: true },
        { statuses: ['expired'] },
        newest,
        { limit: 1_000, cursor },
        now,
      );
      found.push(...read.data.map(({ id }) => id));
      cursor = read.next;
    } while (cursor);
    expect(found.length).toBeGreaterThan(5_000);
    expect(found).toEqual(ids);
  });
});
