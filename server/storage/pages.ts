import type { Knex } from 'knex';

/** One page of a list, in keyset order: stable under inserts and deletes, where offsets would skip and repeat. */
export interface PageRequest {
  readonly limit: number;
  /** The sort value and id of the last row of the page before. */
  readonly after?: Cursor | undefined;
}

export interface Cursor {
  readonly value: string;
  readonly id: string;
}

export interface Page<T> {
  readonly data: T[];
  readonly next: Cursor | undefined;
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
): Promise<Page<T>> {
  const direction = sort.descending ? 'DESC' : 'ASC';
  const rows = filtered
    .clone()
    .select(
      filtered.client.raw(
        `${columns}, (${sort.expression})::text AS cursor_value, (${sort.id})::text AS cursor_id`,
      ),
    )
    .orderByRaw(`${sort.expression} ${direction}, ${sort.id} ${direction}`)
    .limit(page.limit + 1);
  if (page.after) {
    rows.whereRaw(
      `(${sort.expression}, ${sort.id}) ${sort.descending ? '<' : '>'} (?::${sort.type}, ?::${sort.idType})`,
      [page.after.value, page.after.id],
    );
  }
  const [found, [count]] = await Promise.all([
    rows as Promise<(Row & { cursor_value: string; cursor_id: string })[]>,
    filtered.clone().count({ total: '*' }) as Promise<{ total: string }[]>,
  ]);
  const data = found.slice(0, page.limit);
  const last = data.at(-1);
  return {
    data: data.map(map),
    next: found.length > page.limit && last ? { value: last.cursor_value, id: last.cursor_id } : undefined,
    total: Number(count?.total ?? 0),
  };
}

/** A literal substring for LIKE: the caller's % and _ are characters, not patterns. */
export function likeSubstring(text: string): string {
  return `%${text.replace(/[\\%_]/g, '\\$&')}%`;
}
