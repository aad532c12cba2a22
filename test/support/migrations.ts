import type { Knex } from 'knex';
import { createDatabase, type Database } from '../../server/storage/database.ts';
import { createOwnDatabase } from './own-database.ts';

/** A database without a schema, for who brings it from one to the next. */
export async function createEmptyDatabase(): Promise<{ database: Database; drop: () => Promise<void> }> {
  const { url, drop } = await createOwnDatabase();
  const database = createDatabase({ connectionString: url, limited: false });
  return {
    database,
    async drop() {
      await database.close();
      await drop();
    },
  };
}

/** Up or down, until this migration is the last one that is applied. */
export async function migrateTo(knex: Knex, name: string): Promise<void> {
  const applied = async () =>
    (await knex.schema.hasTable('knex_migrations'))
      ? (await knex('knex_migrations').max({ name: 'name' }).first())?.name
      : undefined;
  while (((await applied()) ?? '') < name) await knex.migrate.up();
  while ((await applied()) > name) await knex.migrate.down();
}
