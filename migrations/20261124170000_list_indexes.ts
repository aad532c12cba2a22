import type { Knex } from 'knex';

/** Concurrently, so that tokens are made and revoked meanwhile: no transaction. */
export const config = { transaction: false };

/**
 * An organization's tokens are counted, and searched by name, in an index alone, and are listed by name in its order: in the
 * table they lie scattered. What never changes, or only by a revocation, may be in an index; `last_used_at` may not, or every
 * exchange would write to all of them. The last one is for the sweep of tokens that were revoked long ago.
 */
const indexes = {
  platform_tokens_organization_created:
    '(organization_id, created_at DESC, id DESC) INCLUDE (expires_at, revoked_at)',
  platform_tokens_organization_name:
    '(organization_id, lower(name), id) INCLUDE (name, created_at, expires_at, revoked_at)',
  platform_tokens_name: '(lower(name), id) WHERE revoked_at IS NULL',
  platform_tokens_expires: '(expires_at, id) WHERE revoked_at IS NULL',
  platform_tokens_revoked: '(LEAST(revoked_at, expires_at)) WHERE revoked_at IS NOT NULL',
};
const replaced = ['platform_tokens_organization', 'platform_tokens_expiry'];

export async function up(knex: Knex): Promise<void> {
  for (const [name, definition] of Object.entries(indexes)) {
    // One that was given up half-way is there, and is not used.
    await knex.raw(`DROP INDEX CONCURRENTLY IF EXISTS ${name}`);
    await knex.raw(`CREATE INDEX CONCURRENTLY ${name} ON platform_tokens ${definition}`);
  }
  for (const name of replaced) await knex.raw(`DROP INDEX CONCURRENTLY IF EXISTS ${name}`);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw(`
    CREATE INDEX IF NOT EXISTS platform_tokens_organization ON platform_tokens (organization_id, created_at DESC, id DESC);
    CREATE INDEX IF NOT EXISTS platform_tokens_expiry ON platform_tokens (expires_at) WHERE revoked_at IS NULL;
    DROP INDEX ${Object.keys(indexes).join(', ')};
  `);
}
