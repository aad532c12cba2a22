import type { Knex } from 'knex';

/** One page of a list, in keyset order: stable under inserts and deletes, where offsets would skip and repeat. */
export interface PageRequest {
  readonly limit: number;
  readonly cursor?: Cursor | undefined;
}

/**
 * On which side of its place in the order a page lies: `after` and `before` leave out the row at this very place,
 * `from` and `until` have it.
 */
export type Side = 'after' | 'from' | 'before' | 'until';

/** A place in the order, by a row's sort value and id: the row itself may be gone. */
export interface Cursor {
  readonly side: Side;
  readonly value: string;
  readonly id: string;
}

export interface Page<T> {
  readonly data: T[];
  readonly next: Cursor | undefined;
  /** Where rows come before this page. Known of pages that were reached by a cursor: before the first come none. */
  readonly prev: Cursor | undefined;
  readonly total: number;
}

export interface SortKey {
  /** SQL expression; never from a request. */
  readonly expression: string;
  readonly type: 'text' | 'timestamptz';
  readonly descending: boolean;
  /** Expression of the id that breaks ties, and its type. */
  readonly id: string;
  readonly idType: 'text' | 'uuid';
}

const otherSide = { after: 'until', from: 'before', before: 'from', until: 'after' } as const;
const ascending = { after: '>', from: '>=', before: '<', until: '<=' } as const;
const descending = { after: '<', from: '<=', before: '>', until: '>=' } as const;

export interface PageOptions {
  /** `filtered`, joined with what its order is by: what is counted need not be. */
  readonly ordered?: Knex.QueryBuilder;
  /** Where to read the columns, once the rows are chosen by what an index holds: for rows that are chosen from many. */
  readonly table?: Knex.QueryBuilder;
  /** How many there are in all, where to count `filtered` costs too much. */
  readonly total?: (() => Promise<number>) | undefined;
}

/**
 * @param filtered a query with its joins and conditions, without columns, order and limit
 * @param columns SQL of the columns to read
 */
export async function readPage<Row, T>(
  filtered: Knex.QueryBuilder,
  columns: string,
  sort: SortKey,
  page: PageRequest,
  map: (row: Row) => T,
  { ordered = filtered, table, total: inAll = () => countOf(filtered) }: PageOptions = {},
): Promise<Page<T>> {
  const { cursor, limit } = page;
  // Backwards the rows that are nearest to the cursor come first, and are turned round once they are chosen.
  const backwards = cursor?.side === 'before' || cursor?.side === 'until';
  const direction = sort.descending === backwards ? 'ASC' : 'DESC';
  const order = `${sort.expression} ${direction}, ${sort.id} ${direction}`;
  const place = `${sort.expression}, ${sort.id}`;
  const nearest = ordered
    .clone()
    .orderByRaw(order)
    .limit(limit + 1);
  if (cursor) nearest.where(beside(sort, cursor));
  const source = table
    ? table.whereRaw(`(${place}) IN ?`, [nearest.select(filtered.client.raw(place))]).orderByRaw(order)
    : nearest;
  const rows = source.select(
    filtered.client.raw(
      `${columns}, (${sort.expression})::text AS cursor_value, (${sort.id})::text AS cursor_id`,
    ),
  );
  const [found, total, rowsBehind] = await Promise.all([
    rows as Promise<(Row & { cursor_value: string; cursor_id: string })[]>,
    inAll(),
    cursor ? hasRows(ordered, beside(sort, turned(cursor))) : false,
  ]);
  const chosen = found.slice(0, limit);
  if (backwards) chosen.reverse();
  const [first, last] = [chosen.at(0), chosen.at(-1)];
  const rowsAhead = found.length > limit;
  const [rowsBefore, rowsAfter] = backwards ? [rowsAhead, rowsBehind] : [rowsBehind, rowsAhead];
  // From a page whose rows have all gone, the way back starts where the page was looked for.
  const cursorAt = (side: Side, row: typeof first) =>
    row ? { side, value: row.cursor_value, id: row.cursor_id } : cursor && turned(cursor);
  return {
    data: chosen.map(map),
    next: rowsAfter ? cursorAt('after', last) : undefined,
    prev: rowsBefore ? cursorAt('before', first) : undefined,
    total,
  };
}

/** The rows of a page, and where the next one begins, for who reads all of them: neither counted nor backwards. */
export async function readRows<Row, T>(
  filtered: Knex.QueryBuilder,
  columns: string,
  sort: SortKey,
  { cursor, limit }: PageRequest,
  map: (row: Row) => T,
  table: Knex.QueryBuilder,
): Promise<{ data: T[]; next: Cursor | undefined }> {
  const order = `${sort.expression} ${sort.descending ? 'DESC' : 'ASC'}, ${sort.id} ${sort.descending ? 'DESC' : 'ASC'}`;
  const place = `${sort.expression}, ${sort.id}`;
  const nearest = filtered.clone().orderByRaw(order).limit(limit);
  if (cursor) nearest.where(beside(sort, cursor));
  const { client } = filtered;
  const rows = (await table
    .whereRaw(`(${place}) IN ?`, [nearest.select(client.raw(place))])
    .orderByRaw(order)
    .select(
      client.raw(`${columns}, (${sort.expression})::text AS cursor_value, (${sort.id})::text AS cursor_id`),
    )) as (Row & { cursor_value: string; cursor_id: string })[];
  const last = rows.at(-1);
  const more = last && rows.length >= limit;
  return {
    data: rows.map(map),
    next: more ? { side: 'after', value: last.cursor_value, id: last.cursor_id } : undefined,
  };
}

const turned = (cursor: Cursor): Cursor => ({ ...cursor, side: otherSide[cursor.side] });

/** The condition that a row lies on the cursor's side of its place. */
function beside(sort: SortKey, { side, value, id }: Cursor) {
  const operator = (sort.descending ? descending : ascending)[side];
  const condition = `(${sort.expression}, ${sort.id}) ${operator} (?::${sort.type}, ?::${sort.idType})`;
  return (query: Knex.QueryBuilder): void => void query.whereRaw(condition, [value, id]);
}

async function countOf(rows: Knex.QueryBuilder): Promise<number> {
  const [count] = await rows.clone().count({ total: '*' });
  return Number(count?.total ?? 0);
}

/** Exact up to `most`, above that PostgreSQL's estimate. */
export async function boundedCountOf(filtered: Knex.QueryBuilder, most: number): Promise<number> {
  const { client } = filtered;
  const some = filtered
    .clone()
    .select(client.raw('1'))
    .limit(most + 1);
  const counted = await countOf(client.queryBuilder().from(some.as('some')));
  return counted <= most ? counted : Math.max(counted, await estimateOf(filtered));
}

/** PostgreSQL's estimate, of which it reads none. */
export async function estimateOf(filtered: Knex.QueryBuilder): Promise<number> {
  const { client } = filtered;
  const { sql, bindings } = filtered.clone().select(client.raw('1')).toSQL();
  const { rows } = await client.raw(`EXPLAIN (FORMAT JSON) ${sql}`, bindings as Knex.RawBinding[]);
  return Math.round(rows[0]['QUERY PLAN'][0].Plan['Plan Rows']);
}

/** Stops at the first row that it finds. */
async function hasRows(filtered: Knex.QueryBuilder, condition: ReturnType<typeof beside>): Promise<boolean> {
  const found = await filtered.clone().where(condition).first(filtered.client.raw('1 AS found'));
  return found !== undefined;
}

/** A literal substring for LIKE: the caller's % and _ are characters, not patterns. */
export function likeSubstring(text: string): string {
  return `%${text.replace(/[\\%_]/g, '\\$&')}%`;
}
