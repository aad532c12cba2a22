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
// being lost, must not count twice. Tokens are locked in one order, whoever else writes them at the same time.
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
  )
  UPDATE platform_token_uses u SET last_used_at = used.at, last_used_ip = used.ip
  FROM (SELECT u.token_id, latest.at, latest.ip
        FROM (SELECT DISTINCT ON ("tokenId") "tokenId", at, ip FROM event ORDER BY "tokenId", at DESC) latest
        JOIN platform_token_uses u ON u.token_id = latest."tokenId"
        ORDER BY u.token_id FOR NO KEY UPDATE OF u) used
  WHERE u.token_id = used.token_id AND u.last_used_at < used.at`;

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
