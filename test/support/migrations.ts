import { randomBytes } from 'node:crypto';
import type { Knex } from 'knex';
import { inject } from 'vitest';
import { createDatabase, type Database } from '../../server/storage/database.ts';
import { withDatabase } from './global-setup.ts';

/** A database without a schema, for who brings it from one to the next. */
export async function createEmptyDatabase(): Promise<{ database: Database; drop: () => Promise<void> }> {
  const name = `test_${randomBytes(8).toString('hex')}`;
  const root = createDatabase({ connectionString: inject('databaseUrl'), poolSize: 1 });
  await root.knex.raw(`CREATE DATABASE ${name}`);
  const database = createDatabase({
    connectionString: withDatabase(inject('databaseUrl'), name),
    limited: false,
  });
  return {
    database,
    async drop() {
      await database.close();
      await root.knex.raw(`DROP DATABASE ${name} WITH (FORCE)`);
      await root.close();
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
