import type { Knex } from 'knex';
import { policy } from '../config/policy.ts';
import { createDatabase, type Database } from '../server/storage/database.ts';
import { pendingMigrations } from '../server/storage/migrations.ts';
import { createStores } from '../server/storage/stores.ts';
import { services } from './lists-fixture.ts';
import { type Cleanup, say, startDatabase } from './stage.ts';

/** Part of the names of one token in twenty, of one in 50,000 (and at least one), and of none. */
export const searches = { many: 'deploy', few: 'lighthouse', none: 'nowhere' };
const smallOrganization = 20;
const membershipsEach = 4;
const revokedOf = 100;

export interface Grown {
  readonly tokens: number;
  readonly organizations: readonly string[];
  /** Of 20 tokens, all of one owner; the others have as many as there are tokens for each. */
  readonly smallId: string;
  readonly ownerId: string;
}

/** The schema that all sizes are filled under: what comes after it is timed on a full table. */
const oldSchema = '20261124130000_users_signed_out_at.ts';

/**
 * A database of its own, filled and then migrated.
 * @param digests of tokens that are to be found in it, active and evenly spread
 */
export async function startGrown(size: number, cleanup: Cleanup, digests: readonly Buffer[] = []) {
  const { connectionString, directory } = await startDatabase(cleanup);
  const database = createDatabase({ connectionString, limited: false });
  cleanup.add(() => database.close());
  const { knex } = database;
  // Fewer checkpoints while it fills.
  await knex.raw("ALTER SYSTEM SET max_wal_size = '8GB'");
  await knex.raw('SELECT pg_reload_conf()');
  while ((await knex('knex_migrations').max({ name: 'name' }).first())?.name > oldSchema)
    await knex.migrate.down();

  say(`filling ${size} platform tokens`);
  const filled = performance.now();
  const grown = await grow(database, size, digests);
  await knex.raw('VACUUM ANALYZE');
  const { rows } = await knex.raw(
    "SELECT pg_table_size('platform_tokens') / 1e6 AS heap, pg_indexes_size('platform_tokens') / 1e6 AS indexes",
  );
  const mb = (value: number) => `${Math.round(value)} MB`;
  say(`filled in ${seconds(filled)} s: ${mb(rows[0].heap)} and ${mb(rows[0].indexes)} of indexes`);
  const migrations: { name: string; ms: number }[] = [];
  for (const file of await pendingMigrations(knex)) {
    const start = performance.now();
    await knex.migrate.up();
    const name = file.slice(15, -3);
    migrations.push({ name, ms: performance.now() - start });
    say(`migration ${name}: ${seconds(start)} s`);
  }
  await knex.raw('VACUUM ANALYZE');
  await knex.raw('CHECKPOINT');
  return { connectionString, directory, database, grown, migrations };
}

const seconds = (start: number) => ((performance.now() - start) / 1000).toFixed(1);

export const digestOf = (token: number): string => `sha256('growth ${token}')`;

/**
 * Fills a migrated, empty database, on the server's side: to 10 million tokens 1,000 organizations and 100,000 users, each a
 * member of four, and fewer in proportion. An organization's tokens lie scattered over the table, as they do where all
 * organizations make tokens all the time. One in a hundred is revoked, and a third has expired.
 */
async function grow({ knex }: Database, tokens: number, digests: readonly Buffer[]): Promise<Grown> {
  const now = new Date();
  const stores = createStores({ knex } as Database, () => {});
  for (const id of services) {
    const service = { id, name: id, audience: `https://${id}.example.com`, scopes: ['read', 'write'] };
    await stores.services.insert({ ...service, status: 'active', createdAt: now });
  }
  const organizations = Math.max(membershipsEach, Math.round(tokens / 10_000));
  const users = Math.max(10, Math.round(tokens / 100));
  await knex.raw(
    `INSERT INTO organizations (id, name, created_at)
     SELECT md5('organization ' || n)::uuid, 'Organization ' || n, ?::timestamptz FROM generate_series(0, ?) AS n`,
    [now, organizations],
  );
  await knex.raw(
    `INSERT INTO users (id, email, name, kind, created_at)
     SELECT md5('user ' || n)::uuid, 'person' || n || '@example.com', 'Person ' || n, 'person', ?::timestamptz FROM generate_series(0, ?) AS n`,
    [now, users],
  );
  await knex.raw(
    `INSERT INTO memberships (organization_id, user_id, role, created_at)
     SELECT md5('organization ' || (u + i * :step::int) % :organizations::int)::uuid, md5('user ' || u)::uuid, 'member', :now::timestamptz
     FROM generate_series(0, (:users::int - 1)) AS u, generate_series(0, :each::int - 1) AS i
     UNION ALL SELECT md5('organization ' || :organizations::int)::uuid, md5('user ' || :users::int)::uuid, 'admin', :now::timestamptz`,
    { step: stepOf(organizations), organizations, users, each: membershipsEach, now },
  );
  await withoutIndexes(knex, 'platform_tokens', () =>
    knex.raw(
      `INSERT INTO platform_tokens (id, organization_id, user_id, service_id, name, digest, hint, scopes, created_at,
         expires_at, last_used_at, last_used_ip, revoked_at, revoked_by)
       SELECT uuidv7(age),
         md5('organization ' || CASE WHEN small THEN :organizations::int ELSE (u + n / :users::int % :each::int * :step::int) % :organizations::int END)::uuid,
         md5('user ' || CASE WHEN small THEN :users::int ELSE u END)::uuid,
         (:services::text[])[(1 + n % :kinds::int)::int],
         CASE WHEN n % 50000 = 3 THEN '${searches.few} ' ELSE '' END
           || (ARRAY['CI', '${searches.many} ', 'Import of ', 'My laptop, ', 'nightly-', 'Backup ', 'Zapier ', 'GitHub Actions: '])
              [CASE WHEN n % 20 = 0 THEN 2 WHEN n % 7 = 1 THEN 1 ELSE (3 + n % 6)::int END]
           || left(md5('name ' || n), (2 + n * 31 % 27)::int),
         coalesce(known.digest, sha256(('growth ' || n)::bytea)), 'ptk_abcd', '{read,write}', at, at + :lifetime * interval '1 second',
         CASE WHEN n % 3 > 0 THEN LEAST(:now::timestamptz, at + n * 31 % 700 * interval '1 day') END,
         CASE WHEN n % 3 > 0 THEN '192.0.2.1'::inet END,
         CASE WHEN revoked THEN LEAST(:now::timestamptz, at + n * 13 % 90 * interval '1 day') END,
         CASE WHEN revoked THEN 'bench' END
       FROM generate_series(0, :tokens::bigint - 1) AS n
         LEFT JOIN unnest(:places::bigint[], :digests::bytea[]) AS known (place, digest) ON known.place = n,
         LATERAL (SELECT (n * 7919 % :users::int)::int AS u, n % (:tokens::int / :small::int) = 0 AS small,
           n % :revokedOf::int = 7 AS revoked, (n::float8 / :tokens::int - 1) * 1095 * interval '1 day' AS age) AS a,
         LATERAL (SELECT :now::timestamptz + age AS at) AS b`,
      {
        organizations,
        users,
        each: membershipsEach,
        step: stepOf(organizations),
        services,
        kinds: services.length,
        lifetime: policy.platformTokenLifetime,
        now,
        tokens,
        small: smallOrganization,
        revokedOf,
        places: digests.map((_, index) => activePlace(tokens, index, digests.length)),
        digests,
      },
    ),
  );
  const ids = await knex('organizations').orderByRaw('length(name), name').pluck('id');
  const { id: ownerId } = await knex('users')
    .where({ name: `Person ${users}` })
    .first('id');
  return { tokens, organizations: ids.slice(0, -1), smallId: ids.at(-1), ownerId };
}

/** Of what is not expired, and none that is revoked. */
function activePlace(tokens: number, index: number, of: number): number {
  const place = Math.floor(tokens * (0.4 + (0.59 * index) / of));
  return place % revokedOf === 7 ? place + 1 : place;
}

const stepOf = (organizations: number) => Math.floor(organizations / membershipsEach);

/** Without indexes and foreign keys while it fills, and all of them afterwards: many times faster. */
async function withoutIndexes(knex: Knex, name: string, work: () => Promise<unknown>): Promise<void> {
  const { rows: constraints } = await knex.raw(
    `SELECT conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint
     WHERE conrelid = ?::regclass AND contype IN ('p', 'u', 'f') ORDER BY contype = 'f'`,
    [name],
  );
  const { rows: indexes } = await knex.raw(
    `SELECT i.indexname AS name, i.indexdef AS definition FROM pg_indexes i WHERE i.tablename = ?
     AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conname = i.indexname AND c.contype <> 'f')`,
    [name],
  );
  for (const one of constraints) await knex.raw(`ALTER TABLE ${name} DROP CONSTRAINT "${one.name}"`);
  for (const one of indexes) await knex.raw(`DROP INDEX "${one.name}"`);
  await work();
  await knex.transaction(async (transaction) => {
    await transaction.raw("SET LOCAL maintenance_work_mem = '1GB'");
    for (const one of constraints)
      await transaction.raw(`ALTER TABLE ${name} ADD CONSTRAINT "${one.name}" ${one.definition}`);
    for (const one of indexes) await transaction.raw(one.definition);
  });
}
