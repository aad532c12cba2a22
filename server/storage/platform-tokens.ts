import type { Knex } from 'knex';
import { policy } from '../../config/policy.ts';
import type { ExchangeSubject } from '../domain/exchange-policy.ts';
import { classOf, type Database, type Executor, type NamedStatement, queryNamed } from './database.ts';
import { joinCalls } from './joined-calls.ts';
import {
  boundedCountOf,
  estimateOf,
  likeSubstring,
  type Page,
  type PageRequest,
  readPage,
  type SortKey,
} from './pages.ts';

export type TokenStatus = 'active' | 'expired' | 'revoked';

export interface PlatformToken {
  readonly id: string;
  readonly organizationId: string;
  readonly userId: string;
  readonly serviceId: string;
  readonly serviceName: string;
  readonly name: string;
  readonly hint: string;
  readonly scopes: string[];
  readonly createdAt: Date;
  readonly expiresAt: Date;
  readonly lastUsedAt: Date | null;
  readonly lastUsedIp: string | null;
  readonly revokedAt: Date | null;
  readonly revokedBy: string | null;
}

export interface NewPlatformToken {
  readonly id: string;
  readonly organizationId: string;
  readonly userId: string;
  readonly serviceId: string;
  readonly name: string;
  readonly digest: Buffer;
  readonly hint: string;
  readonly scopes: readonly string[];
  readonly createdAt: Date;
  readonly expiresAt: Date;
}

/** Which tokens a caller may see: all; or their own where they are members, and everybody's where they are admins. */
export type Visibility =
  | { readonly all: true }
  | {
      readonly all: false;
      readonly userId: string;
      readonly memberOf: readonly string[];
      readonly adminOf: readonly string[];
    };

export interface TokenFilter {
  readonly organizationId?: string | undefined;
  readonly userId?: string | undefined;
  readonly services?: readonly string[] | undefined;
  readonly nameContains?: string | undefined;
  readonly statuses?: readonly TokenStatus[] | undefined;
}

export const tokenSorts = ['created_at', 'name', 'last_used_at', 'expires_at'] as const;
export type TokenSort = (typeof tokenSorts)[number];

export interface RevokedToken {
  readonly id: string;
  readonly organizationId: string;
}

const columns = `t.id, t.organization_id, t.user_id, t.service_id, s.name AS service_name, t.name, t.hint, t.scopes,
  t.created_at, t.expires_at, nullif(u.last_used_at, '-infinity') AS last_used_at, host(u.last_used_ip) AS last_used_ip,
  t.revoked_at, t.revoked_by`;

const sortKeys: Record<TokenSort, Pick<SortKey, 'expression' | 'type' | 'id'>> = {
  created_at: { expression: 't.created_at', type: 'timestamptz', id: 't.id' },
  name: { expression: 'lower(t.name)', type: 'text', id: 't.id' },
  // Never used, which is `-infinity`, sorts as used longest ago.
  last_used_at: { expression: 'u.last_used_at', type: 'timestamptz', id: 'u.token_id' },
  expires_at: { expression: 't.expires_at', type: 'timestamptz', id: 't.id' },
};

const presentState = `SELECT encode(t.digest, 'hex') AS digest, t.id, t.organization_id, t.user_id, t.service_id, s.audience, t.scopes,
      t.status_index, t.expires_at, t.revoked_at,
      (u.id IS NULL AND o.id IS NULL AND s.status = 'active' AND m.user_id IS NOT NULL) AS active
    FROM platform_tokens t
    LEFT JOIN LATERAL (SELECT id FROM users WHERE id = t.user_id AND status <> 'active' OFFSET 0) u ON true
    LEFT JOIN LATERAL (SELECT id FROM organizations WHERE id = t.organization_id AND status <> 'active' OFFSET 0) o ON true
    JOIN LATERAL (SELECT status, audience FROM services WHERE id = t.service_id OFFSET 0) s ON true
    LEFT JOIN LATERAL (
      SELECT user_id FROM memberships WHERE organization_id = t.organization_id AND user_id = t.user_id OFFSET 0
    ) m ON true`;
// By the unique index on the digest or the primary key, the rest by keys too. Users and organizations are there, by foreign keys, and
// looked for among the inactive ones, which are few and have indexes of their own. `OFFSET 0` keeps PostgreSQL from another
// join, for which it would read all of a thousand organizations. Named, so PostgreSQL parses and plans
// it once a connection: with the array in a query of its own it expects ten keys at every planning. Else it would plan
// anew, for longer than it then runs, wherever fewer keys make a plan look cheaper than the general one.
const byDigest = {
  name: 'platform-tokens-by-digest',
  text: `${presentState} WHERE t.digest = ANY((SELECT $1::bytea[])::bytea[])`,
};
const byId = {
  name: 'platform-tokens-by-id',
  text: `${presentState} WHERE t.id = ANY((SELECT $1::uuid[])::uuid[])`,
};

interface LookupRow {
  digest: string;
  id: string;
  organization_id: string;
  user_id: string;
  service_id: string;
  audience: string;
  scopes: string[];
  status_index: string;
  expires_at: Date;
  revoked_at: Date | null;
  active: boolean;
}

export type PlatformTokens = ReturnType<typeof createPlatformTokens>;

export function createPlatformTokens({ knex, lookups, watch }: Pick<Database, 'knex' | 'lookups' | 'watch'>) {
  const from = (executor: Executor) =>
    executor('platform_tokens as t')
      .join('services as s', 's.id', 't.service_id')
      // Each has one, unless somebody has loaded tokens past the triggers.
      .leftJoin('platform_token_uses as u', 'u.token_id', 't.id');

  async function ask(statement: NamedStatement, keys: readonly unknown[]): Promise<LookupRow[]> {
    watch.lookedUp(keys.length);
    try {
      return await queryNamed<LookupRow>(lookups, statement, [keys]);
    } catch (error) {
      watch.failed(classOf(error));
      throw error;
    }
  }

  const together = { maximumKeys: policy.joinedLookups.keys, maximumCalls: policy.joinedLookups.calls };
  const findForExchange = joinCalls<Buffer, ExchangeSubject | undefined>({
    ...together,
    maximumWaiting: policy.waitingLookups,
    async load(digests) {
      const rows = await ask(byDigest, digests);
      const found = new Map(rows.map((row) => [row.digest, toExchangeSubject(row)]));
      return digests.map((digest) => found.get(digest.toString('hex')));
    },
  });
  const findPresent = joinCalls<string, ExchangeSubject | undefined>({
    ...together,
    maximumWaiting: policy.waitingLookups,
    async load(ids) {
      const rows = await ask(byId, ids);
      const found = new Map(rows.map((row) => [row.id, toExchangeSubject(row)]));
      return ids.map((id) => found.get(id));
    },
  });

  return {
    /** The present state of a presented token, by its SHA-256. */
    findForExchange: findForExchange as (digest: Buffer) => Promise<ExchangeSubject | undefined>,
    /** The same, by its id: of a token whose JWT is presented. */
    findPresent: findPresent as (id: string) => Promise<ExchangeSubject | undefined>,
    /** How long look-ups wait for their turn, in ms. */
    lookupWaitMs: () => Math.max(findForExchange.waitMs(), findPresent.waitMs()),

    async find(
      id: string,
      visibility: Visibility,
      executor: Executor = knex,
    ): Promise<PlatformToken | undefined> {
      const row = await from(executor)
        .where('t.id', id)
        .where(visibleTo(visibility))
        .first(executor.raw(columns));
      return row && toPlatformToken(row as Row);
    },

    async list(
      visibility: Visibility,
      filter: TokenFilter,
      sort: { readonly by: TokenSort; readonly descending: boolean },
      page: PageRequest,
      now: Date,
    ): Promise<Page<PlatformToken>> {
      const key: SortKey = { ...sortKeys[sort.by], descending: sort.descending, idType: 'uuid' };
      const overAll = visibility.all && !filter.organizationId && !filter.userId;
      const most = policy.exactTotalOfAllTokens;
      const visible = (organization?: 'u.organization_id') =>
        knex('platform_tokens as t').where(visibleTo(visibility, organization));
      const matches = (organization?: 'u.organization_id') =>
        visible(organization).where(matching(filter, now, organization));
      // Searched for once: what is found is then counted and put in order by its ids.
      const found: string[] | undefined =
        overAll && filter.nameContains
          ? await matches()
              .limit(most + 1)
              .pluck('t.id')
          : undefined;
      const few = found && found.length <= most;
      const chosen = (organization?: 'u.organization_id') =>
        few ? visible(organization).whereRaw('t.id = ANY(?::uuid[])', [found]) : matches(organization);
      const filtered = chosen();
      const countAll = async () => {
        if (!found) return boundedCountOf(filtered, most);
        return few ? found.length : Math.max(found.length, await estimateOf(filtered));
      };
      const ordered =
        // Asked of the uses alone, where the index is: by both, PostgreSQL would expect one of a hundred to have the two.
        sort.by === 'last_used_at'
          ? chosen('u.organization_id').join('platform_token_uses as u', 'u.token_id', 't.id')
          : sort.by === 'created_at' && overAll && isOnly('expired', filter.statuses)
            ? chosen().whereRaw(oldEnough, [now])
            : filtered;
      return readPage<Row, PlatformToken>(filtered, columns, key, page, toPlatformToken, {
        ordered,
        // Once more by the token itself, of the few that were chosen: a use has a copy of its organization.
        table: from(knex).where(visibleTo(visibility)),
        total: overAll ? countAll : undefined,
      });
    },

    /** Active tokens of one user in one organization. */
    async countActive(
      userId: string,
      organizationId: string,
      now: Date,
      executor: Executor = knex,
    ): Promise<number> {
      const row = await executor('platform_tokens as t')
        .where({ 't.user_id': userId, 't.organization_id': organizationId })
        .whereNull('t.revoked_at')
        .where('t.expires_at', '>', now)
        .count({ total: '*' })
        .first();
      return Number(row?.total ?? 0);
    },

    /**
     * All of them, for those who watch: up to 10,000 of a status counted, above that PostgreSQL's estimate, so that it costs
     * the same in a table of any size.
     */
    async countByStatus(now: Date): Promise<Record<TokenStatus, number>> {
      const count = (status: TokenStatus) =>
        boundedCountOf(
          knex('platform_tokens as t').where(ofStatus(new Set([status]), now)),
          policy.exactTotal,
        );
      return {
        active: await count('active'),
        expired: await count('expired'),
        revoked: await count('revoked'),
      };
    },

    async insert(token: NewPlatformToken, executor: Executor = knex): Promise<void> {
      await executor('platform_tokens').insert({
        id: token.id,
        organization_id: token.organizationId,
        user_id: token.userId,
        service_id: token.serviceId,
        name: token.name,
        digest: token.digest,
        hint: token.hint,
        scopes: token.scopes,
        created_at: token.createdAt,
        expires_at: token.expiresAt,
      });
    },

    /** Revokes what is visible, chosen and not yet revoked; answers with what changed. */
    async revoke(
      choice: { readonly ids: readonly string[] } | TokenFilter,
      visibility: Visibility,
      by: { readonly actorId: string; readonly at: Date },
      executor: Executor = knex,
    ): Promise<RevokedToken[]> {
      // Locked in the order of their ids: revocations that overlap wait for each other, and never deadlock.
      const chosen = await executor('platform_tokens as t')
        .whereNull('t.revoked_at')
        .where(visibleTo(visibility))
        .where('ids' in choice ? (query) => void query.whereIn('t.id', choice.ids) : matching(choice, by.at))
        .orderBy('t.id')
        .forNoKeyUpdate()
        .select('t.id');
      const rows = await executor('platform_tokens as t')
        .whereRaw('t.id = ANY(?::uuid[])', [chosen.map(({ id }) => id)])
        .whereNull('t.revoked_at')
        .update({ revoked_at: by.at, revoked_by: by.actorId })
        .returning(['t.id', 't.organization_id']);
      return rows.map((row) => ({ id: row.id, organizationId: row.organization_id }));
    },

    /** Which of these ids the caller may see, revoked or not. */
    async visibleIds(
      ids: readonly string[],
      visibility: Visibility,
      executor: Executor = knex,
    ): Promise<Set<string>> {
      const rows = await executor('platform_tokens as t')
        .whereIn('t.id', ids)
        .where(visibleTo(visibility))
        .select('t.id');
      return new Set(rows.map((row) => row.id));
    },
  };
}

function toExchangeSubject(row: LookupRow): ExchangeSubject {
  return {
    id: row.id,
    organizationId: row.organization_id,
    userId: row.user_id,
    serviceId: row.service_id,
    audience: row.audience,
    scopes: row.scopes,
    statusIndex: Number(row.status_index),
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
    active: row.active,
  };
}

function visibleTo(visibility: Visibility, organization = 't.organization_id') {
  return (query: Knex.QueryBuilder): void => {
    if (visibility.all) return;
    const { userId, memberOf, adminOf } = visibility;
    const onlyMemberOf = memberOf.filter((id) => !adminOf.includes(id));
    query.where((either) => {
      either.whereIn(organization, adminOf);
      // An admin sees what is their own among all: without an OR there is an index for every order.
      if (onlyMemberOf.length > 0)
        either.orWhere((own) => own.where('t.user_id', userId).whereIn(organization, onlyMemberOf));
    });
  };
}

const isOnly = (status: TokenStatus, statuses: readonly TokenStatus[] = []) =>
  new Set(statuses).size === 1 && statuses[0] === status;

/** Of what has expired, all is older than the shortest life: in the order of creation nothing active is passed. */
const oldEnough = `t.created_at <= ?::timestamptz - interval '1 second' *
  (SELECT min(extract(epoch FROM expires_at - created_at)) FROM platform_tokens WHERE revoked_at IS NULL)`;

function matching(filter: TokenFilter, now: Date, organization = 't.organization_id') {
  return (query: Knex.QueryBuilder): void => {
    if (filter.organizationId) query.where(organization, filter.organizationId);
    if (filter.userId) query.where('t.user_id', filter.userId);
    if (filter.services?.length) query.whereIn('t.service_id', filter.services);
    if (filter.nameContains)
      query.whereRaw("lower(t.name) LIKE lower(?) ESCAPE '\\'", [likeSubstring(filter.nameContains)]);
    if (filter.statuses?.length) query.where(ofStatus(new Set(filter.statuses), now));
  };
}

/** In as few conditions as it takes: PostgreSQL has indexes for what is not revoked, and finds none for an OR. */
function ofStatus(statuses: ReadonlySet<TokenStatus>, now: Date) {
  return (query: Knex.QueryBuilder): void => {
    const [revoked, expired, active] = (['revoked', 'expired', 'active'] as const).map((one) =>
      statuses.has(one),
    );
    if (revoked && expired && active) return;
    query.where((any) => {
      if (revoked) any.orWhereNotNull('t.revoked_at');
      if (!expired && !active) return;
      any.orWhere((unrevoked) => {
        unrevoked.whereNull('t.revoked_at');
        if (!active) unrevoked.where('t.expires_at', '<=', now);
        if (!expired) unrevoked.where('t.expires_at', '>', now);
      });
    });
  };
}

interface Row {
  id: string;
  organization_id: string;
  user_id: string;
  service_id: string;
  service_name: string;
  name: string;
  hint: string;
  scopes: string[];
  created_at: Date;
  expires_at: Date;
  last_used_at: Date | null;
  last_used_ip: string | null;
  revoked_at: Date | null;
  revoked_by: string | null;
}

function toPlatformToken(row: Row): PlatformToken {
  return {
    id: row.id,
    organizationId: row.organization_id,
    userId: row.user_id,
    serviceId: row.service_id,
    serviceName: row.service_name,
    name: row.name,
    hint: row.hint,
    scopes: row.scopes,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    lastUsedAt: row.last_used_at,
    lastUsedIp: row.last_used_ip,
    revokedAt: row.revoked_at,
    revokedBy: row.revoked_by,
  };
}
