import type { Knex } from 'knex';
import { withShortLocks } from '../server/storage/short-locks.ts';

/** Concurrently and in short steps, so that tokens are made, used and revoked meanwhile: no transaction. */
export const config = { transaction: false };

const batch = 10_000;
/** In the order of lists by last use: of one organization, and of all. */
const indexes = {
  platform_token_uses_organization: '(organization_id, last_used_at, token_id)',
  platform_token_uses_latest: '(last_used_at, token_id)',
};

const tables = ['platform_tokens', 'platform_token_uses'];

/**
 * When each platform token was last used and from where, `-infinity` for never, in a narrow table of its own. Exchanges
 * write to it and to nothing else of the token: lists by last use are read in the order of an index, and what all others read in
 * `platform_tokens` is changed by a revocation alone. Whoever makes a token, its row is made with it. The release before writes
 * to columns of `platform_tokens`, which go with a later one: what it writes is passed on.
 */
export async function up(knex: Knex): Promise<void> {
  const { rows } = await knex.raw('SELECT quote_ident(current_schema()) AS schema');
  await withShortLocks(knex, ['platform_tokens'], (transaction) => transaction.raw(table(rows[0].schema)));
  await copy(knex);
  await withShortLocks(knex, tables, (transaction) =>
    transaction.raw(`
      ALTER TABLE platform_token_uses DROP CONSTRAINT IF EXISTS platform_token_uses_token;
      ALTER TABLE platform_token_uses ADD CONSTRAINT platform_token_uses_token
        FOREIGN KEY (token_id) REFERENCES platform_tokens (id) ON DELETE CASCADE NOT VALID;
    `),
  );
  // Of those that were deleted while they were copied.
  await knex.raw(
    'DELETE FROM platform_token_uses u WHERE NOT EXISTS (SELECT FROM platform_tokens t WHERE t.id = u.token_id)',
  );
  await knex.raw('ALTER TABLE platform_token_uses VALIDATE CONSTRAINT platform_token_uses_token');
  for (const [name, columns] of Object.entries(indexes)) {
    // One that was given up half-way is there, and is not used.
    await knex.raw(`DROP INDEX CONCURRENTLY IF EXISTS ${name}`);
    await knex.raw(`CREATE INDEX CONCURRENTLY ${name} ON platform_token_uses ${columns}`);
  }
  await knex.raw('ANALYZE platform_token_uses');
  // What needed the room is written here now.
  await withShortLocks(knex, ['platform_tokens'], (transaction) =>
    transaction.raw('ALTER TABLE platform_tokens RESET (fillfactor)'),
  );
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('ALTER TABLE platform_tokens SET (fillfactor = 80)');
  // Most of it while all goes on, and what came meanwhile with the end of the table.
  await knex.raw(copyBack);
  await withShortLocks(knex, tables, (transaction) =>
    transaction.raw(`
      DROP FUNCTION platform_token_made, platform_token_changed CASCADE;
      ${copyBack};
      DROP TABLE platform_token_uses;
    `),
  );
}

const copyBack = `
  UPDATE platform_tokens t SET last_used_at = u.last_used_at, last_used_ip = u.last_used_ip
  FROM platform_token_uses u WHERE u.token_id = t.id AND u.last_used_at > coalesce(t.last_used_at, '-infinity')`;

// As the owner: the role that serves is granted a new table only once the migration is over. Rows are locked in the order of their
// tokens, as who writes last uses locks them.
const table = (schema: string) => `
  CREATE TABLE IF NOT EXISTS platform_token_uses (
    token_id        uuid PRIMARY KEY,
    organization_id uuid NOT NULL,
    last_used_at    timestamptz(3) NOT NULL DEFAULT '-infinity',
    last_used_ip    inet
  -- Room in each page for the new version of a row; the entries of the old ones leave the indexes early.
  ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

  CREATE OR REPLACE FUNCTION platform_token_made() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
  BEGIN
    INSERT INTO ${schema}.platform_token_uses
      SELECT id, organization_id, coalesce(last_used_at, '-infinity'), last_used_ip FROM made ON CONFLICT DO NOTHING;
    RETURN NULL;
  END $$;
  CREATE OR REPLACE TRIGGER platform_token_made AFTER INSERT ON platform_tokens REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION platform_token_made();

  CREATE OR REPLACE FUNCTION platform_token_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
  BEGIN
    INSERT INTO ${schema}.platform_token_uses AS u
      SELECT now.id, now.organization_id, coalesce(now.last_used_at, '-infinity'), now.last_used_ip
      FROM now JOIN before ON before.id = now.id
      WHERE (now.organization_id, now.last_used_at) IS DISTINCT FROM (before.organization_id, before.last_used_at) ORDER BY now.id
      ON CONFLICT (token_id) DO UPDATE SET organization_id = EXCLUDED.organization_id,
        last_used_at = GREATEST(u.last_used_at, EXCLUDED.last_used_at),
        last_used_ip = CASE WHEN u.last_used_at < EXCLUDED.last_used_at THEN EXCLUDED.last_used_ip ELSE u.last_used_ip END;
    RETURN NULL;
  END $$;
  CREATE OR REPLACE TRIGGER platform_token_changed AFTER UPDATE ON platform_tokens REFERENCING OLD TABLE AS before NEW TABLE AS now
    FOR EACH STATEMENT EXECUTE FUNCTION platform_token_changed();
  REVOKE EXECUTE ON FUNCTION platform_token_made(), platform_token_changed() FROM PUBLIC;
`;

/** A batch gives up after 200 ms where a writer holds one of its rows, so that the two never wait for each other. */
async function copy(knex: Knex): Promise<void> {
  for (let last: string | undefined = '00000000-0000-0000-0000-000000000000'; last !== undefined; ) {
    const from: string = last;
    await withShortLocks(knex, [], async (transaction) => {
      const { rows } = await transaction.raw(
        `WITH batch AS MATERIALIZED (
           SELECT id, organization_id, coalesce(last_used_at, '-infinity') AS at, last_used_ip
           FROM platform_tokens WHERE id > ? ORDER BY id LIMIT ?
         ), copied AS (INSERT INTO platform_token_uses SELECT * FROM batch ON CONFLICT DO NOTHING)
         SELECT id FROM batch ORDER BY id DESC LIMIT 1`,
        [from, batch],
      );
      last = rows[0]?.id;
    });
  }
}
