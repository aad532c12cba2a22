import { z } from 'zod';
import { Problem } from '../http/problem.ts';
import type { PageRequest } from '../storage/pages.ts';

const printable = z
  .string()
  .max(512)
  .regex(/^\P{Cc}*$/u);
const cursorSchema = z.tuple([z.string(), printable, printable]);

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
  const cursor = parse(query.cursor);
  if (!cursor || cursor[0] !== sort || !isOf(types, cursor[1], cursor[2])) {
    throw new Problem({
      status: 400,
      title: 'Bad Request',
      errors: [{ pointer: '/cursor', detail: 'is not a cursor of this list' }],
    });
  }
  return { limit: query.limit, after: { value: cursor[1], id: cursor[2] } };
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
