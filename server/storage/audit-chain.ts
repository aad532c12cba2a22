import { createHash } from 'node:crypto';
import type { Knex } from 'knex';
import { policy } from '../../config/policy.ts';
import { isAfter, type Place, readEvents, type Trail } from './audit-chain-events.ts';
import { trails } from './audit-trail.ts';

export interface ChainReport {
  /** Batches whose events are there and unchanged, and those events. */
  readonly batches: number;
  readonly events: number;
  /** Batches of months that the retention has dropped: of these the row alone is verified. */
  readonly retired: number;
  /** Events that no batch has yet. */
  readonly unsealed: number;
  readonly head: { readonly seq: number; readonly hash: string } | undefined;
  /** The first thing that is wrong, in words for an operator. */
  readonly fault: string | undefined;
}

interface Batch {
  seq: string;
  trail: Trail;
  month: string;
  last_xid: string;
  last_at: string;
  last_id: string;
  events: number;
  events_hash: string;
  previous_hash: string;
  hash: string;
  sealed_at: string;
}

const genesis = '00'.repeat(32);
const pageSize = 1_000;
const retentionMonths = {
  audit_events: policy.auditEventMonths,
  exchange_events: policy.exchangeEventMonths,
};

/**
 * Recomputes the chain of batches from its beginning to what was its head when this began, in bounded memory: each batch's
 * row, its link to the one before, and its events. Whatever lies between two batches of a month belongs to the later one, so
 * an event that was added shows there.
 * @param knex of a database without limits of time
 * @param noted a hash that was the head at some time: it has to be in the chain
 */
export async function verifyChain(knex: Knex, noted?: string): Promise<ChainReport> {
  const head = await headOf(knex);
  const counted = { batches: 0, events: 0, retired: 0 };
  const readers = new Map<string, ReturnType<typeof readEvents>>();
  const reader = ({ trail, month }: Pick<Batch, 'trail' | 'month'>) => {
    const key = `${trail} ${month}`;
    const made = readers.get(key) ?? readEvents(knex, trail, month);
    readers.set(key, made);
    return made;
  };
  let seenNoted = noted === undefined;

  async function findFault(): Promise<string | undefined> {
    let before = { seq: 0, hash: genesis };
    const ends = new Map<Trail, Place>();
    for await (const batch of batchesUpTo(knex, head?.seq ?? 0)) {
      const seq = Number(batch.seq);
      if (seq !== before.seq + 1) return `batch ${before.seq + 1} is missing`;
      if (batch.previous_hash !== before.hash)
        return `batch ${seq} does not follow batch ${before.seq}: the link is broken`;
      if (batch.hash !== hashOf(batch)) return `batch ${seq} was changed`;
      const fault = await eventsFault(batch);
      if (fault) return `batch ${seq} (${batch.trail}, ${batch.month.slice(0, 7)}): ${fault}`;
      before = { seq, hash: batch.hash };
      seenNoted ||= batch.hash === noted;
      ends.set(batch.trail, later(ends.get(batch.trail), placeOf(batch)));
    }
    if (before.seq !== (head?.seq ?? 0)) return `batch ${before.seq + 1} is missing`;
    for (const [trail, end] of ends) {
      const fault = await addedFault(trail, end);
      if (fault) return fault;
    }
    return seenNoted ? undefined : `no batch has the hash ${noted}: the chain was cut or written anew`;
  }

  async function eventsFault(batch: Batch): Promise<string | undefined> {
    const { hash, count } = await reader(batch).take(placeOf(batch), batch.events);
    if (count === batch.events && hash === batch.events_hash) {
      counted.batches += 1;
      counted.events += count;
      return undefined;
    }
    if (await isGone(batch)) {
      if (await isExpired(batch)) {
        counted.retired += 1;
        return undefined;
      }
      return 'the month is gone before its time';
    }
    if (count === batch.events) return 'an event was changed';
    return count < batch.events ? 'an event is missing' : 'an event was added';
  }

  async function isGone({ trail, month }: Batch): Promise<boolean> {
    const { rows } = await knex.raw(
      `SELECT EXISTS (SELECT FROM ${trail} WHERE at >= :from::timestamptz AND at < :from::timestamptz + interval '1 month') AS held`,
      { from: `${month}T00:00:00Z` },
    );
    return !rows[0].held;
  }

  /** By PostgreSQL's clock, which its partitions are dropped by. */
  async function isExpired({ trail, month }: Batch): Promise<boolean> {
    const { rows } = await knex.raw(
      `SELECT date_trunc('month', now() AT TIME ZONE 'UTC') - :months * interval '1 month'
         >= :month::date + interval '1 month' AS expired`,
      { months: retentionMonths[trail], month },
    );
    return rows[0].expired;
  }

  /** An event below what is sealed, in a month after its last batch, or in a month that has none. */
  async function addedFault(trail: Trail, end: Place): Promise<string | undefined> {
    const months = [...readers.keys()]
      .filter((key) => key.startsWith(`${trail} `))
      .map((key) => key.slice(trail.length + 1));
    for (const month of months) {
      const { count } = await reader({ trail, month }).take(end, 0);
      if (count > 0) return `${trail}, ${month.slice(0, 7)}: an event was added after the month's last batch`;
    }
    const elsewhere = months.map(() => "(at >= ?::timestamptz AND at < ?::timestamptz + interval '1 month')");
    const { rows } = await knex.raw(
      `SELECT id FROM ${trail} WHERE (xid, at, id) <= (?, ?, ?) AND NOT (${elsewhere.join(' OR ')}) LIMIT 1`,
      [end.xid, end.at, end.id, ...months.flatMap((month) => [`${month}T00:00:00Z`, `${month}T00:00:00Z`])],
    );
    return rows[0] ? `${trail}: the event ${rows[0].id} was added to a month that has no batch` : undefined;
  }

  const fault = await findFault();
  return { ...counted, unsealed: await unsealedOf(knex), head, fault };
}

async function headOf(knex: Knex): Promise<ChainReport['head']> {
  const { rows } = await knex.raw(
    "SELECT seq, encode(hash, 'hex') AS hash FROM audit_batches ORDER BY seq DESC LIMIT 1",
  );
  return rows[0] && { seq: Number(rows[0].seq), hash: rows[0].hash };
}

async function* batchesUpTo(knex: Knex, last: number): AsyncGenerator<Batch> {
  for (let after = '0'; ; ) {
    const { rows } = await knex.raw(
      `SELECT seq, trail, month::text, last_xid, (extract(epoch FROM last_at) * 1000)::bigint AS last_at, last_id, events,
         encode(events_hash, 'hex') AS events_hash, encode(previous_hash, 'hex') AS previous_hash, encode(hash, 'hex') AS hash,
         (extract(epoch FROM sealed_at) * 1000)::bigint AS sealed_at
       FROM audit_batches WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?`,
      [after, last, pageSize],
    );
    yield* rows as Batch[];
    if (rows.length < pageSize) return;
    after = rows.at(-1).seq;
  }
}

/** As PostgreSQL writes the array: numbers bare, a space after each comma. */
function hashOf(batch: Batch): string {
  const text = (value: string) => `"${value}"`;
  const members = [
    text('audit_batches'),
    batch.seq,
    text(batch.trail),
    text(batch.month),
    batch.last_xid,
    batch.last_at,
    text(batch.last_id),
    batch.events,
    text(batch.events_hash),
    text(batch.previous_hash),
    batch.sealed_at,
  ];
  return createHash('sha256')
    .update(`[${members.join(', ')}]`)
    .digest('hex');
}

const placeOf = ({ last_xid, last_at, last_id }: Batch): Place => ({
  xid: Number(last_xid),
  at: new Date(Number(last_at)),
  id: last_id,
});

const later = (one: Place | undefined, other: Place): Place => (one && isAfter(one, other) ? one : other);

async function unsealedOf(knex: Knex): Promise<number> {
  let unsealed = 0;
  for (const trail of trails) {
    const last = `SELECT last_xid, last_at, last_id FROM audit_batches WHERE trail = '${trail}'
      ORDER BY last_xid DESC, last_at DESC, last_id DESC LIMIT 1`;
    const { rows: places } = await knex.raw(last);
    const { rows } = places[0]
      ? await knex.raw(
          `SELECT count(*) FROM ${trail} WHERE xid >= :last_xid AND (xid, at, id) > (:last_xid, :last_at, :last_id)`,
          places[0],
        )
      : await knex.raw(`SELECT count(*) FROM ${trail}`);
    unsealed += Number(rows[0].count);
  }
  return unsealed;
}
