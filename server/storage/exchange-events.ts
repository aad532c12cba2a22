import type { Knex } from 'knex';

export interface ExchangeEvent {
  readonly id: string;
  readonly at: Date;
  readonly organizationId: string;
  readonly tokenId: string;
  readonly serviceId: string;
  readonly ip: string | null;
  readonly userAgent: string | null;
  readonly requestId: string | null;
  /** How many exchanges it stands for; of several, the rest is of the last one. */
  readonly count: number;
}

// In JSON: of an array for each column the driver would escape every value. A write that is tried again, its answer
// being lost, must not count twice. Tokens are locked in one order, whoever else writes them at the same time, and
// looked for by arrays, of which PostgreSQL expects ten keys: by a plain join it would read all of a table of ten thousand.
const insertStatement = `
  WITH event AS MATERIALIZED (
    SELECT id, to_timestamp(at / 1000) AS at, "organizationId", "tokenId", "serviceId", ip, "userAgent", "requestId", count
    FROM json_to_recordset(?) AS event (id uuid, at float8, "organizationId" uuid, "tokenId" uuid, "serviceId" text,
      ip inet, "userAgent" text, "requestId" text, count int)
  ), recorded AS (
    INSERT INTO exchange_events
      (id, at, organization_id, token_id, service_id, ip, user_agent, request_id, count)
    SELECT * FROM event
    ON CONFLICT DO NOTHING
  ), latest AS MATERIALIZED (
    SELECT DISTINCT ON ("tokenId") "tokenId" AS id, at, ip FROM event ORDER BY "tokenId", at DESC
  ), held AS MATERIALIZED (
    SELECT token_id FROM platform_token_uses WHERE token_id = ANY(ARRAY(SELECT id FROM latest))
    ORDER BY token_id FOR NO KEY UPDATE
  )
  UPDATE platform_token_uses u SET last_used_at = latest.at, last_used_ip = latest.ip
  FROM latest
  WHERE u.token_id = ANY(ARRAY(SELECT token_id FROM held)) AND u.token_id = latest.id AND u.last_used_at < latest.at`;

export type ExchangeEvents = ReturnType<typeof createExchangeEvents>;

export function createExchangeEvents(knex: Knex) {
  return {
    /** All of them with their tokens' last use, or nothing. */
    async insert(events: readonly ExchangeEvent[]): Promise<void> {
      const rows = events.map(
        ({ id, at, organizationId, tokenId, serviceId, ip, userAgent, requestId, count }) => ({
          id,
          at: at.getTime(),
          organizationId,
          tokenId,
          serviceId,
          ip,
          userAgent,
          requestId,
          count,
        }),
      );
      await knex.raw(insertStatement, [JSON.stringify(rows)]);
    },
  };
}
