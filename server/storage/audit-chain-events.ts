import { createHash } from 'node:crypto';
import type { Knex } from 'knex';
import type { trails } from './audit-trail.ts';

export type Trail = (typeof trails)[number];

/** A place in the order in which events are sealed. */
export interface Place {
  readonly xid: number;
  readonly at: Date;
  /** Lower-case, as PostgreSQL writes it: it sorts as its bytes do. */
  readonly id: string;
}

interface Row {
  xid: string;
  at: Date;
  id: string;
  event: string;
}

const chunk = 5_000;
/** What the hash of an event covers: the same as in `audit_seal_next`, which seals it. */
const arrays: Record<Trail, string> = {
  audit_events: `'audit_events', id, (extract(epoch FROM at) * 1000)::bigint, action, actor_type, actor_id, organization_id,
    token_id, target_id, ip, user_agent, request_id, reason, count, xid`,
  exchange_events: `'exchange_events', id, (extract(epoch FROM at) * 1000)::bigint, organization_id, token_id, service_id, ip,
    user_agent, request_id, count, xid`,
};
const nowhere: Place = { xid: 0, at: new Date(0), id: '00000000-0000-0000-0000-000000000000' };

export const isAfter = (one: Place, other: Place): boolean => comparePlaces(one, other) > 0;

function comparePlaces(one: Place, other: Place): number {
  if (one.xid !== other.xid) return one.xid - other.xid;
  if (one.at.getTime() !== other.at.getTime()) return one.at.getTime() - other.at.getTime();
  return one.id < other.id ? -1 : Number(one.id > other.id);
}

/** The events of a month, in their order, a chunk at a time. */
export function readEvents(knex: Knex, trail: Trail, month: string) {
  const from = new Date(`${month}T00:00:00Z`);
  const to = new Date(Date.UTC(from.getUTCFullYear(), from.getUTCMonth() + 1, 1));
  let rows: Row[] = [];
  let next = 0;
  let last = nowhere;

  /** By the same two indexes as they were sealed by: an event from before names no transaction. */
  async function read(): Promise<Row[]> {
    const after = async (condition: string, order: string): Promise<Row[]> => {
      const { rows } = await knex.raw(
        // The array of those that are chosen alone.
        `SELECT xid, at, id, json_build_array(${arrays[trail]})::text AS event FROM (
           SELECT * FROM ${trail} WHERE at >= :from AND at < :to AND ${condition} ORDER BY ${order} LIMIT ${chunk}
         ) e ORDER BY xid, at, id`,
        { from, to, ...last },
      );
      return rows;
    };
    const old = last.xid > 0 ? [] : await after('xid = 0 AND (at, id) > (:at, :id)', 'at, id');
    if (old.length === chunk) return old;
    const placed = 'xid > 0 AND xid >= :xid AND (xid, at, id) > (:xid, :at, :id)';
    return [...old, ...(await after(placed, 'xid, at, id'))];
  }

  async function peek(): Promise<Row | undefined> {
    if (next === rows.length) {
      rows = await read();
      next = 0;
    }
    return rows[next];
  }

  return {
    /** All events that are not taken yet, up to a place; one more than `most` is enough to say that there are more. */
    async take(end: Place, most: number): Promise<{ hash: string; count: number }> {
      const hash = createHash('sha256');
      let count = 0;
      for (let row = await peek(); row && count <= most; row = await peek()) {
        const place = { xid: Number(row.xid), at: row.at, id: row.id };
        if (isAfter(place, end)) break;
        hash.update(createHash('sha256').update(row.event).digest());
        count += 1;
        last = place;
        next += 1;
      }
      return { hash: hash.digest('hex'), count };
    },
  };
}
