import type { Knex } from 'knex';
import { withShortLocks } from '../server/storage/short-locks.ts';

/** The long part holds up no writer, the short one is a transaction of its own. */
export const config = { transaction: false };

/**
 * `audit_events` gets a partition a month (UTC), as `exchange_events` has. What is there becomes one partition, which ends
 * with the next month: nothing moves. Where there is nothing, it goes.
 */
export async function up(knex: Knex): Promise<void> {
  const { rows } = await knex.raw("SELECT relkind FROM pg_class WHERE oid = 'audit_events'::regclass");
  if (rows[0].relkind === 'p') return;
  const now = new Date();
  const bound = monthFrom(now, 2);
  await prepare(knex, bound);
  await withShortLocks(knex, ['audit_events'], async (transaction) => {
    await transaction.raw('LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE');
    const { rows } = await transaction.raw('SELECT EXISTS (SELECT FROM audit_events) AS held');
    const before = `audit_events_before_${bound.name}`;
    await transaction.raw(`
      ALTER TABLE audit_events RENAME TO ${before};
      ALTER TABLE ${before} DROP CONSTRAINT audit_events_bound;
      ALTER INDEX audit_events_pkey RENAME TO ${before}_pkey;
      DROP INDEX audit_events_at;
      ALTER INDEX audit_events_at_id RENAME TO ${before}_at;
      ALTER INDEX audit_events_organization RENAME TO ${before}_organization;
      ALTER INDEX audit_events_token RENAME TO ${before}_token;
      ALTER INDEX audit_events_actor RENAME TO ${before}_actor;
      ALTER INDEX audit_events_xid RENAME TO ${before}_xid;

      CREATE TABLE audit_events (LIKE ${before} INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (at);
      CREATE UNIQUE INDEX audit_events_at ON audit_events (at DESC, id DESC);
      CREATE INDEX audit_events_organization ON audit_events (organization_id, at DESC, id DESC);
      CREATE INDEX audit_events_token ON audit_events (token_id, at DESC, id DESC) WHERE token_id IS NOT NULL;
      CREATE INDEX audit_events_actor ON audit_events (actor_id, at DESC, id DESC);
      CREATE INDEX audit_events_xid ON audit_events (xid);
      CREATE TABLE audit_events_default PARTITION OF audit_events DEFAULT;
    `);
    const months = rows[0].held ? [bound] : [0, 1, 2].map((ahead) => monthFrom(now, ahead));
    const attach = rows[0].held
      ? `ALTER TABLE audit_events ATTACH PARTITION ${before} FOR VALUES FROM (MINVALUE) TO ('${bound.from}');`
      : '';
    await transaction.raw(`
      ${attach}
      ${months
        .map(
          ({ name, from, to }) =>
            `CREATE TABLE audit_events_${name} PARTITION OF audit_events FOR VALUES FROM ('${from}') TO ('${to}');`,
        )
        .join('\n')}
      ${trail('count')}
      ${rows[0].held ? '' : `DROP TABLE ${before};`}
    `);
  });
}

/** What takes time with many events: an index, and the proof that all of them belong into the partition. */
async function prepare(knex: Knex, bound: Month): Promise<void> {
  await knex.raw('DROP INDEX CONCURRENTLY IF EXISTS audit_events_at_id');
  await knex.raw('CREATE UNIQUE INDEX CONCURRENTLY audit_events_at_id ON audit_events (at DESC, id DESC)');
  await withShortLocks(knex, ['audit_events'], async (transaction) => {
    await transaction.raw(`
      ALTER TABLE audit_events DROP CONSTRAINT IF EXISTS audit_events_bound,
        DROP CONSTRAINT IF EXISTS audit_events_count_check;
      ALTER TABLE audit_events ADD CONSTRAINT audit_events_bound CHECK (at < '${bound.from}') NOT VALID,
        ADD CONSTRAINT audit_events_count_check CHECK (count > 0) NOT VALID;
    `);
  });
  await knex.raw('ALTER TABLE audit_events VALIDATE CONSTRAINT audit_events_bound');
  await knex.raw('ALTER TABLE audit_events VALIDATE CONSTRAINT audit_events_count_check');
}

export async function down(knex: Knex): Promise<void> {
  await knex.transaction(async (transaction) => {
    await transaction.raw(`
      ALTER TABLE audit_events RENAME TO audit_events_by_month;
      CREATE TABLE audit_events (LIKE audit_events_by_month INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
      INSERT INTO audit_events SELECT * FROM audit_events_by_month;
      ${trail('1')}
      DROP TABLE audit_events_by_month;
      ALTER TABLE audit_events ADD PRIMARY KEY (id);
      CREATE INDEX audit_events_at ON audit_events (at DESC, id DESC);
      CREATE INDEX audit_events_organization ON audit_events (organization_id, at DESC, id DESC);
      CREATE INDEX audit_events_token ON audit_events (token_id, at DESC, id DESC) WHERE token_id IS NOT NULL;
      CREATE INDEX audit_events_actor ON audit_events (actor_id, at DESC, id DESC);
      CREATE INDEX audit_events_xid ON audit_events (xid);
      ALTER TABLE audit_events DROP CONSTRAINT audit_events_count_check;
    `);
  });
}

/** As it was, over the table that is now under the name. Other columns than these an older release does not know. */
const trail = (count: string) => `
  CREATE OR REPLACE VIEW audit_trail AS
    SELECT id, at, action, actor_type, actor_id, organization_id, token_id, target_id, ip, user_agent, request_id, reason,
      ${count} AS count, false AS is_exchange
    FROM audit_events
    UNION ALL
    SELECT id, at, 'token.exchanged', 'token', token_id::text, organization_id, token_id, service_id, ip, user_agent,
      request_id, NULL, count, true
    FROM exchange_events;`;

interface Month {
  readonly name: string;
  readonly from: string;
  readonly to: string;
}

function monthFrom(now: Date, ahead: number): Month {
  const start = (more: number) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + more, 1));
  const from = start(ahead).toISOString();
  return { name: from.slice(0, 7).replace('-', '_'), from, to: start(ahead + 1).toISOString() };
}
