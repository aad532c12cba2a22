import { useMemo } from 'react';
import { type TokenSort, type TokenStatus, tokenSorts, tokenStatuses } from '../api/queries.ts';
import { changeSearchParameters, type HowToChange, useSearchParameters } from '../search.ts';

/** What is listed, and how: all of it in the address, so that a view can be shared and survives a reload. */
export interface ListState {
  readonly q: string;
  readonly services: readonly string[];
  readonly statuses: readonly TokenStatus[];
  readonly userId: string | undefined;
  readonly sort: TokenSort;
  readonly cursor: string | undefined;
  /** The token whose details are open. */
  readonly token: string | undefined;
}

const isOneOf =
  <T extends string>(known: readonly T[]) =>
  (value: string | null): value is T =>
    known.includes(value as T);
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const slug = /^[a-z0-9-]{1,64}$/;
export const maximumSearchLength = 100;

/** What does not fit is left out: an address may be typed, or be an old one. */
export function readListState(search: URLSearchParams): ListState {
  const id = (name: string) => {
    const value = search.get(name);
    return value !== null && uuid.test(value) ? value : undefined;
  };
  const sort = search.get('sort');
  return {
    q: cleanSearch(search.get('q') ?? ''),
    services: [...new Set(search.getAll('service').filter((value) => slug.test(value)))],
    statuses: [...new Set(search.getAll('status').filter(isOneOf(tokenStatuses)))],
    userId: id('user'),
    sort: isOneOf(tokenSorts)(sort) ? sort : '-created_at',
    cursor: search.get('cursor') ?? undefined,
    token: id('token'),
  };
}

/** The API takes no control characters, and a name has none. */
export function cleanSearch(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cs}]/gu, '').slice(0, maximumSearchLength);
}

const names: Record<keyof ListState, string> = {
  q: 'q',
  services: 'service',
  statuses: 'status',
  userId: 'user',
  sort: 'sort',
  cursor: 'cursor',
  token: 'token',
};

export type ChangeList = (change: Partial<ListState>, how?: HowToChange) => void;

export function useListState(): [ListState, ChangeList] {
  const search = useSearchParameters();
  const change: ChangeList = (changed, how) =>
    changeSearchParameters((next) => {
      // Another list begins with its first page.
      if (!('cursor' in changed) && !('token' in changed)) next.delete(names.cursor);
      for (const [key, value] of Object.entries(changed) as [keyof ListState, unknown][]) {
        next.delete(names[key]);
        for (const item of [value].flat()) if (item) next.append(names[key], String(item));
      }
    }, how);
  return [useMemo(() => readListState(search), [search]), change];
}

export const isFiltered = ({ q, services, statuses, userId }: ListState) =>
  q !== '' || services.length > 0 || statuses.length > 0 || userId !== undefined;
