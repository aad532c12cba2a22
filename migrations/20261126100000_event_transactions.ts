import type { Knex } from 'knex';

/** Concurrently, so that events are written meanwhile: no transaction. */
export const config = { transaction: false };

/**
 * Each event names the transaction that wrote it. What a snapshot says has ended writes no more, so all events below it can
 * be sealed, once, without a lock that a writer waits for. Events from before have 0. Without rewriting the tables: the
 * first default is a constant, which PostgreSQL keeps beside them.
 *
 * `audit_xid` adds a number that is 0, until the database is restored into a server whose own count is behind
 * (`audit_seal` in a later migration). PostgreSQL writes it out where it is called.
 */
export async function up(knex: Knex): Promise<void> {
  await withLocks(knex, async (transaction) => {
    await transaction.raw(`
      CREATE OR REPLACE FUNCTION audit_xid(xid8) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        RETURN $1::text::bigint + 0;
      ALTER TABLE exchange_events ADD COLUMN IF NOT EXISTS xid bigint NOT NULL DEFAULT 0;
      ALTER TABLE exchange_events ALTER COLUMN xid SET DEFAULT audit_xid(pg_current_xact_id());
      ALTER TABLE audit_events ADD COLUMN IF NOT EXISTS xid bigint NOT NULL DEFAULT 0;
      ALTER TABLE audit_events ALTER COLUMN xid SET DEFAULT audit_xid(pg_current_xact_id());
      -- How many attempts an event stands for, where they are counted.
      ALTER TABLE audit_events ADD COLUMN IF NOT EXISTS count integer NOT NULL DEFAULT 1;
    `);
  });
  for (const table of ['audit_events', ...(await partitions(knex))]) {
    // One that was given up half-way is there, and is not used.
    await knex.raw(`DROP INDEX CONCURRENTLY IF EXISTS ${table}_xid`);
    await knex.raw(`CREATE INDEX CONCURRENTLY ${table}_xid ON ${table} (xid)`);
  }
  // The parent's takes those of the partitions; a partition that was made meanwhile has its index built here.
  await withLocks(knex, async (transaction) => {
    await transaction.raw(`
      DROP INDEX IF EXISTS exchange_events_xid;
      CREATE INDEX exchange_events_xid ON exchange_events (xid);
    `);
  });
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw(`
    ALTER TABLE audit_events DROP COLUMN xid, DROP COLUMN count;
    ALTER TABLE exchange_events DROP COLUMN xid;
    DROP FUNCTION audit_xid(xid8);
  `);
}

async function partitions(knex: Knex): Promise<string[]> {
  const { rows } = await knex.raw(
    "SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'exchange_events'::regclass",
  );
  return (rows as { name: string }[]).map(({ name }) => name);
}

/** Gives up before anything that waits behind it would notice, and tries again. */
async function withLocks(knex: Knex, work: (transaction: Knex.Transaction) => Promise<void>): Promise<void> {
  for (let left = 600; ; left -= 1) {
    try {
      return await knex.transaction(async (transaction) => {
        await transaction.raw("SET LOCAL lock_timeout = '200ms'");
        await work(transaction);
      });
    } catch (error) {
      if ((error as { code?: unknown }).code !== '55P03' || left === 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}
