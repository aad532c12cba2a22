import type { Knex } from 'knex';

/**
 * Room in each page for the new version of a row: what an exchange writes (`last_used_at`) is in no index, so with room it
 * stays in its page, and no index is written. For pages that are filled from now on. Takes a lock that lets rows be
 * read and written.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw('ALTER TABLE platform_tokens SET (fillfactor = 80)');
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('ALTER TABLE platform_tokens RESET (fillfactor)');
}
