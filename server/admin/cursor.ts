import { z } from 'zod';
import { Problem } from '../http/problem.ts';
import type { Cursor, Page, PageRequest } from '../storage/pages.ts';
import type { Response } from './route.ts';

const printable = z
  .string()
  .max(512)
  .regex(/^\P{Cc}*$/u);
// Without a side it is `after`: so older releases made them, and read them while a newer one runs beside them.
const cursorSchema = z.tuple([
  z.string(),
  printable,
  printable,
  z.enum(['from', 'before', 'until']).optional(),
]);

/**
 * The page that a query asks for. A cursor is bound to the order that it was made for.
 * @throws Problem 400 for a cursor that is none of ours
 */
export function readPageRequest(
  query: { readonly limit: number; readonly cursor?: string | undefined },
  sort: string,
  types: { readonly value: 'text' | 'time'; readonly id: 'text' | 'uuid' },
): PageRequest {
  if (query.cursor === undefined) return { limit: query.limit };
  const [order, value = '', id = '', side = 'after'] = parse(query.cursor) ?? [];
  if (order !== sort || !isOf(types, value, id)) {
    throw new Problem({
      status: 400,
      title: 'Bad Request',
      errors: [{ pointer: '/cursor', detail: 'is not a cursor of this list' }],
    });
  }
  return { limit: query.limit, cursor: { side, value, id } };
}

/** The page as every list answers it. */
export function answerPage<T>(page: Page<T>, sort: string, present: (item: T) => unknown): Response {
  const { data, total } = page;
  const next = page.next && encode(sort, page.next);
  const prev = page.prev && encode(sort, page.prev);
  return { body: { data: data.map(present), next_cursor: next ?? null, total }, links: { next, prev } };
}

function encode(sort: string, { side, value, id }: Cursor): string {
  return Buffer.from(JSON.stringify([sort, value, id, ...(side === 'after' ? [] : [side])])).toString(
    'base64url',
  );
}

function parse(text: string) {
  try {
    return cursorSchema.safeParse(JSON.parse(Buffer.from(text, 'base64url').toString())).data;
  } catch {
    return undefined;
  }
}

const postgresTime = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d{1,6})?[+-](0\d|1[0-4])(:[0-5]\d)?$/;

function isOf(types: { value: 'text' | 'time'; id: 'text' | 'uuid' }, value: string, id: string): boolean {
  if (types.value === 'time' && !isTime(value)) return false;
  return types.id === 'text' || z.uuid().safeParse(id).success;
}

/** What PostgreSQL reads as a time: the calendar is checked too, where Date would take the 30th of February. */
function isTime(value: string): boolean {
  if (value === '-infinity') return true;
  const [, day, time] = postgresTime.exec(value) ?? [];
  const date = new Date(`${day}T${time}Z`);
  return (
    !Number.isNaN(date.getTime()) &&
    date.getUTCFullYear() > 0 &&
    date.toISOString().startsWith(`${day}T${time}`)
  );
}
