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

/**
 * @param filtered a query with its joins and conditions, without columns, order and limit
 * @param columns SQL of the columns to read
 * @param table where to read them, once the rows are chosen by what an index holds: for rows that are chosen from many
 */
export async function readPage<Row, T>(
  filtered: Knex.QueryBuilder,
  columns: string,
  sort: SortKey,
  page: PageRequest,
  map: (row: Row) => T,
  table?: Knex.QueryBuilder,
): Promise<Page<T>> {
  const { cursor, limit } = page;
  // Backwards the rows that are nearest to the cursor come first, and are turned round once they are chosen.
  const backwards = cursor?.side === 'before' || cursor?.side === 'until';
  const direction = sort.descending === backwards ? 'ASC' : 'DESC';
  const order = `${sort.expression} ${direction}, ${sort.id} ${direction}`;
  const place = `${sort.expression}, ${sort.id}`;
  const nearest = filtered
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
  const [found, [count], rowsBehind] = await Promise.all([
    rows as Promise<(Row & { cursor_value: string; cursor_id: string })[]>,
    filtered.clone().count({ total: '*' }) as Promise<{ total: string }[]>,
    cursor ? hasRows(filtered, beside(sort, turned(cursor))) : false,
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
    total: Number(count?.total ?? 0),
  };
}

const turned = (cursor: Cursor): Cursor => ({ ...cursor, side: otherSide[cursor.side] });

/** The condition that a row lies on the cursor's side of its place. */
function beside(sort: SortKey, { side, value, id }: Cursor) {
  const operator = (sort.descending ? descending : ascending)[side];
  const condition = `(${sort.expression}, ${sort.id}) ${operator} (?::${sort.type}, ?::${sort.idType})`;
  return (query: Knex.QueryBuilder): void => void query.whereRaw(condition, [value, id]);
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
