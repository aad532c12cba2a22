import type { Knex } from 'knex';

/** Concurrently, so that tokens are made and revoked meanwhile: no transaction. */
export const config = { transaction: false };

/**
 * For searches by name over all organizations. The extension is a trusted one, which a database's owner may create. A
 * server without it, or a role that may not, does without the index: such a search then reads every name.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    DO $$ BEGIN
      CREATE EXTENSION IF NOT EXISTS pg_trgm;
    EXCEPTION WHEN undefined_file OR feature_not_supported OR insufficient_privilege THEN
      NULL;
    END $$`);
  const { rows } = await knex.raw("SELECT FROM pg_extension WHERE extname = 'pg_trgm'");
  if (rows.length === 0) return;
  // One that was given up half-way is there, and is not used.
  await knex.raw('DROP INDEX CONCURRENTLY IF EXISTS platform_tokens_name_trigrams');
  // Written at once: what waits in a list of its own slows every search, until somebody vacuums.
  await knex.raw(
    `CREATE INDEX CONCURRENTLY platform_tokens_name_trigrams ON platform_tokens
       USING gin (lower(name) gin_trgm_ops) WITH (fastupdate = off)`,
  );
}

/** The extension stays: something else may use it. */
export async function down(knex: Knex): Promise<void> {
  await knex.raw('DROP INDEX CONCURRENTLY IF EXISTS platform_tokens_name_trigrams');
}
