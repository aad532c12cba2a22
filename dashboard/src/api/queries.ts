import { infiniteQueryOptions, keepPreviousData, QueryClient, queryOptions } from '@tanstack/react-query';
import { type Api, isPassing, Refused, type Service, unwrap } from './client.ts';
import type { operations } from './schema.d.ts';

/** JSON, which is what is asked for; there are JSON Lines too. */
type TrailPage = operations['listAuditEvents']['responses'][200]['content']['application/json'];

/** Everything that the dashboard reads, by key. */

export const tokenStatuses = ['active', 'expired', 'revoked'] as const;
export type TokenStatus = (typeof tokenStatuses)[number];

export const tokenSorts = [
  '-created_at',
  'created_at',
  'name',
  '-name',
  'expires_at',
  '-expires_at',
  '-last_used_at',
  'last_used_at',
] as const;
export type TokenSort = (typeof tokenSorts)[number];

export interface TokenListQuery {
  readonly organizationId: string;
  readonly userId: string | undefined;
  readonly q: string;
  readonly services: readonly string[];
  readonly statuses: readonly TokenStatus[];
  readonly sort: TokenSort;
  readonly cursor: string | undefined;
}

export const pageSize = 25;

export function createQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        // Whether there is a network is found out by trying: a browser's idea of it may be wrong both ways.
        networkMode: 'always',
        retry: (failures, error) => isPassing(error) || (!(error instanceof Refused) && failures < 2),
        retryDelay: (failures) => Math.min(1_000 * 2 ** failures, 10_000),
        staleTime: 5_000,
      },
    },
  });
}

export const keys = {
  tokens: ['tokens'] as const,
  me: ['me'] as const,
};

export type Queries = ReturnType<typeof createQueries>;

export function createQueries(api: Api) {
  return {
    me: () =>
      queryOptions({
        queryKey: keys.me,
        queryFn: async ({ signal }) => unwrap(await api.GET('/admin/me', { signal })),
      }),

    services: () =>
      queryOptions({
        queryKey: ['services'],
        staleTime: 60_000,
        queryFn: async ({ signal }) => {
          const services: Service[] = [];
          for (let cursor: string | null | undefined; cursor !== null; ) {
            const query = { limit: 100, ...(cursor ? { cursor } : {}) };
            const page = unwrap(await api.GET('/admin/services', { params: { query }, signal }));
            services.push(...page.data);
            cursor = page.next_cursor;
          }
          return services;
        },
      }),

    tokens: (list: TokenListQuery) =>
      queryOptions({
        queryKey: [...keys.tokens, 'list', list],
        // The list stays while the next one is on its way; an older answer belongs to another key.
        placeholderData: keepPreviousData,
        queryFn: async ({ signal }) => {
          const query = {
            limit: pageSize,
            organization_id: list.organizationId,
            sort: list.sort,
            ...(list.userId ? { user_id: list.userId } : {}),
            ...(list.q ? { q: list.q } : {}),
            ...(list.services.length ? { service: [...list.services] } : {}),
            ...(list.statuses.length ? { status: [...list.statuses] } : {}),
            ...(list.cursor ? { cursor: list.cursor } : {}),
          };
          const answer = await api.GET('/admin/tokens', { params: { query }, signal });
          const { data, total, next_cursor: next } = unwrap(answer);
          return { tokens: data, total, next, previous: readPreviousPage(answer.response) };
        },
      }),

    token: (id: string) =>
      queryOptions({
        queryKey: [...keys.tokens, 'one', id],
        queryFn: async ({ signal }) =>
          unwrap(await api.GET('/admin/tokens/{id}', { params: { path: { id } }, signal })),
      }),

    trail: (tokenId: string) =>
      infiniteQueryOptions({
        queryKey: [...keys.tokens, 'trail', tokenId],
        initialPageParam: undefined as string | undefined,
        queryFn: async ({ signal, pageParam }) => {
          const query = { token_id: tokenId, limit: pageSize, ...(pageParam ? { cursor: pageParam } : {}) };
          return unwrap(await api.GET('/admin/audit-events', { params: { query }, signal })) as TrailPage;
        },
        getNextPageParam: (page) => page.next_cursor ?? undefined,
      }),

    /** Members whose name or e-mail holds the text; the first of them where there are many. */
    members: (organizationId: string, q: string) =>
      queryOptions({
        queryKey: ['members', organizationId, 'search', q],
        placeholderData: keepPreviousData,
        queryFn: async ({ signal }) => {
          const params = { path: { id: organizationId }, query: { limit: 50, ...(q ? { q } : {}) } };
          return unwrap(await api.GET('/admin/organizations/{id}/members', { params, signal })).data;
        },
      }),

    /** The members of these ids; former members are not among them. */
    membersById: (organizationId: string, ids: readonly string[]) =>
      queryOptions({
        queryKey: ['members', organizationId, 'ids', ids],
        enabled: ids.length > 0,
        staleTime: 60_000,
        placeholderData: keepPreviousData,
        queryFn: async ({ signal }) => {
          const params = { path: { id: organizationId }, query: { limit: 100, user_id: [...ids] } };
          const { data } = unwrap(await api.GET('/admin/organizations/{id}/members', { params, signal }));
          return new Map(data.map((member) => [member.user_id, member]));
        },
      }),
  };
}

/** Cursor of the page before this one, from the Link field (RFC 8288). */
function readPreviousPage(response: Response): string | undefined {
  const target = /<([^>]*)>;\s*rel="prev"/.exec(response.headers.get('Link') ?? '')?.[1];
  return target === undefined ? undefined : (new URL(target).searchParams.get('cursor') ?? undefined);
}
