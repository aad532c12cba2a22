import type { Knex } from 'knex';

// Any number, the same in every release: whoever holds it migrates, everybody else waits.
const migrationLock = 7_301_441;

/** The names of migrations that this release has and the database does not. */
export async function pendingMigrations(knex: Knex): Promise<string[]> {
  const [, pending] = (await knex.migrate.list()) as [unknown, { file: string }[]];
  return pending.map(({ file }) => file);
}

/**
 * Brings the schema up to date. Safe to call from several processes at once: they queue on an advisory lock, which
 * ends with its connection. Knex's own lock is a row that a killed process leaves behind, so the holder frees it.
 */
export async function migrate(knex: Knex): Promise<void> {
  const connection = await knex.client.acquireConnection();
  try {
    await connection.query('SET statement_timeout = 0');
    await connection.query('SELECT pg_advisory_lock($1)', [migrationLock]);
    if ((await pendingMigrations(knex)).length === 0) return;
    await knex.migrate.forceFreeMigrationsLock();
    await knex.migrate.latest();
  } finally {
    await connection.query('SELECT pg_advisory_unlock_all()').catch(() => {});
    await connection.query('RESET statement_timeout').catch(() => {});
    await knex.client.releaseConnection(connection);
  }
}
