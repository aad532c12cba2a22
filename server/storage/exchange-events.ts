import type { Knex } from 'knex';
import { policy } from '../../config/policy.ts';
import type { Executor } from './database.ts';

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
  UPDATE platform_tokens t SET last_used_at = used.at, last_used_ip = used.ip
  FROM (SELECT t.id, latest.at, latest.ip
        FROM (SELECT DISTINCT ON ("tokenId") "tokenId", at, ip FROM event ORDER BY "tokenId", at DESC) latest
        JOIN platform_tokens t ON t.id = latest."tokenId"
        ORDER BY t.id FOR NO KEY UPDATE OF t) used
  WHERE t.id = used.id AND (t.last_used_at IS NULL OR t.last_used_at < used.at)`;
const monthName = /^exchange_events_(\d{4})_(\d{2})$/;
const monthsAhead = 2;
// Any number, the same in every release: of instances that sweep at once, one changes the partitions.
const partitionsLock = 7_301_442;

export type ExchangeEvents = ReturnType<typeof createExchangeEvents>;

export function createExchangeEvents(knex: Knex) {
  /** In a transaction of its own, which gives up before anything that waits behind it would notice. */
  async function change(work: (transaction: Knex.Transaction) => Promise<unknown>): Promise<boolean> {
    return knex.transaction(async (transaction) => {
      await transaction.raw(`SET LOCAL lock_timeout = ${policy.sweepLockTimeoutMs}`);
      const { rows } = await transaction.raw('SELECT pg_try_advisory_xact_lock(?) AS free', [partitionsLock]);
      if (rows[0].free) await work(transaction);
      return rows[0].free;
    });
  }

  async function partitions(executor: Executor): Promise<string[]> {
    const { rows } = await executor.raw(
      "SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'exchange_events'::regclass",
    );
    return (rows as { name: string }[]).map(({ name }) => name);
  }

  async function makeMonth(month: Date): Promise<void> {
    const { name, from, to } = boundsOf(month);
    await change(async (transaction) => {
      if ((await partitions(transaction)).includes(name)) return;
      // Attached, for what is made as a partition locks the whole table. What the default partition has of it moves.
      await transaction.raw(`
        CREATE TABLE ${name} (LIKE exchange_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
        WITH moved AS (DELETE FROM exchange_events_default WHERE at >= '${from}' AND at < '${to}' RETURNING *)
          INSERT INTO ${name} SELECT * FROM moved;
        ALTER TABLE exchange_events ATTACH PARTITION ${name} FOR VALUES FROM ('${from}') TO ('${to}');
      `);
    });
  }

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

    /**
     * Makes this month's partition and the next ones, and drops those that are old: what one sweep cannot do, because
     * somebody reads the table, the next one does.
     * @returns how many were dropped
     */
    async deleteExpired(now: Date): Promise<number> {
      let dropped = 0;
      try {
        const there = await partitions(knex);
        for (let ahead = 0; ahead <= monthsAhead; ahead += 1) {
          const month = monthFrom(now, ahead);
          if (!there.includes(boundsOf(month).name)) await makeMonth(month);
        }
      } finally {
        const oldest = monthFrom(now, -policy.exchangeEventMonths);
        for (const name of (await partitions(knex)).filter((one) => isBefore(one, oldest))) {
          if (await change((transaction) => transaction.raw(`DROP TABLE IF EXISTS ${name}`))) dropped += 1;
        }
        await knex('exchange_events_default').where('at', '<', oldest).delete();
      }
      return dropped;
    },
  };
}

const monthFrom = (now: Date, months: number): Date =>
  new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + months, 1));

function boundsOf(month: Date): { name: string; from: string; to: string } {
  const from = month.toISOString();
  const name = `exchange_events_${from.slice(0, 7).replace('-', '_')}`;
  return { name, from, to: monthFrom(month, 1).toISOString() };
}

function isBefore(partition: string, month: Date): boolean {
  const [, year, ofYear] = monthName.exec(partition) ?? [];
  return year !== undefined && Date.UTC(Number(year), Number(ofYear) - 1, 1) < month.getTime();
}
