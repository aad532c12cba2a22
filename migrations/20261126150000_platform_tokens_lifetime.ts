import type { Knex } from 'knex';

/** Concurrently, so that tokens are made and revoked meanwhile: no transaction. */
export const config = { transaction: false };

/** The shortest life of all tokens, at a glance: how old what has expired is at least. */
export async function up(knex: Knex): Promise<void> {
  // One that was given up half-way is there, and is not used.
  await knex.raw('DROP INDEX CONCURRENTLY IF EXISTS platform_tokens_lifetime');
  await knex.raw(
    `CREATE INDEX CONCURRENTLY platform_tokens_lifetime ON platform_tokens (extract(epoch FROM expires_at - created_at))
       WHERE revoked_at IS NULL`,
  );
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('DROP INDEX CONCURRENTLY IF EXISTS platform_tokens_lifetime');
}
