import type { Knex } from 'knex';

/** Sessions from before this moment are over: the password was changed, or the user deactivated. */
export async function up(knex: Knex): Promise<void> {
  await knex.raw('ALTER TABLE users ADD COLUMN signed_out_at timestamptz(3)');
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('ALTER TABLE users DROP COLUMN signed_out_at');
}
