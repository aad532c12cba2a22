import type { Knex } from 'knex';

/**
 * Exchanges have a table of their own: narrow, and a partition a month (UTC), which leaves whole. Later months are made
 * ahead by the sweep (server/storage/exchange-events.ts); the default partition takes what has none. What the release
 * before this one writes, and has written, to audit_events stays there: the view has both.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    CREATE TABLE exchange_events (
      id              uuid NOT NULL,
      at              timestamptz(3) NOT NULL,
      organization_id uuid NOT NULL,
      token_id        uuid NOT NULL,
      service_id      text NOT NULL,
      ip              inet,
      user_agent      text,
      request_id      text,
      -- How many exchanges the row stands for; of several, the rest is of the last one.
      count           integer NOT NULL DEFAULT 1 CHECK (count > 0),
      -- A partitioned table's key needs the column that it is partitioned by. It makes a write that is tried again safe.
      PRIMARY KEY (at, id)
    ) PARTITION BY RANGE (at);
    CREATE INDEX exchange_events_organization ON exchange_events (organization_id, at DESC, id DESC);
    CREATE INDEX exchange_events_token ON exchange_events (token_id, at DESC, id DESC);
    CREATE TABLE exchange_events_default PARTITION OF exchange_events DEFAULT;
    ${monthsFrom(new Date(), 3)
      .map(
        ({ name, from, to }) =>
          `CREATE TABLE ${name} PARTITION OF exchange_events FOR VALUES FROM ('${from}') TO ('${to}');`,
      )
      .join('\n')}

    -- Where a condition on is_exchange is false, PostgreSQL leaves the table out; so it does by the action.
    CREATE VIEW audit_trail AS
      SELECT id, at, action, actor_type, actor_id, organization_id, token_id, target_id, ip, user_agent, request_id, reason,
        1 AS count, false AS is_exchange
      FROM audit_events
      UNION ALL
      SELECT id, at, 'token.exchanged', 'token', token_id::text, organization_id, token_id, service_id, ip, user_agent,
        request_id, NULL, count, true
      FROM exchange_events;
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('DROP VIEW audit_trail; DROP TABLE exchange_events');
}

function monthsFrom(now: Date, count: number) {
  return Array.from({ length: count }, (_, ahead) => {
    const start = (more: number) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + more, 1));
    const from = start(ahead).toISOString();
    return {
      name: `exchange_events_${from.slice(0, 7).replace('-', '_')}`,
      from,
      to: start(ahead + 1).toISOString(),
    };
  });
}
