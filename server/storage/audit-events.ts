import type { Knex } from 'knex';
import { validate as isUuid, v7 as uuidv7 } from 'uuid';
import { policy } from '../../config/policy.ts';
import type { Executor } from './database.ts';
import { boundedCountOf, type Cursor, type Page, type PageRequest, readPage, readRows } from './pages.ts';
import type { Visibility } from './platform-tokens.ts';

export interface AuditEvent {
  readonly id: string;
  readonly at: Date;
  /** `noun.verb`, e.g. `token.created` */
  readonly action: string;
  readonly actor: { readonly type: 'user' | 'client' | 'token' | 'system'; readonly id: string };
  readonly organizationId: string | null;
  readonly tokenId: string | null;
  /** What was acted on, where it is no token: a user's, an organization's, a service's, a client's id. */
  readonly targetId: string | null;
  readonly ip: string | null;
  readonly userAgent: string | null;
  readonly requestId: string | null;
  readonly reason: string | null;
  /** How many it stands for, where they are counted; else 1. */
  readonly count?: number;
}

/** As the trail has it. */
export interface ListedEvent extends AuditEvent {
  /** How many of its kind it stands for. */
  readonly count: number;
}

/** An event of what the server did by itself, in no request. @param actor the part of it that did */
export function systemEvent(
  actor: string,
  event: Pick<AuditEvent, 'at' | 'action'> &
    Partial<Pick<AuditEvent, 'organizationId' | 'tokenId' | 'targetId' | 'reason'>>,
): AuditEvent {
  return {
    id: uuidv7(),
    actor: { type: 'system', id: actor },
    organizationId: null,
    tokenId: null,
    targetId: null,
    ip: null,
    userAgent: null,
    requestId: null,
    reason: null,
    ...event,
  };
}

export interface AuditFilter {
  readonly organizationId?: string | undefined;
  readonly actorId?: string | undefined;
  readonly action?: string | undefined;
  readonly tokenId?: string | undefined;
  readonly from?: Date | undefined;
  readonly to?: Date | undefined;
}

const columns = `e.id, e.at, e.action, e.actor_type, e.actor_id, e.organization_id, e.token_id, e.target_id,
  host(e.ip) AS ip, e.user_agent, e.request_id, e.reason, e.count`;
const insertColumns: { name: string; type: string; value: (event: AuditEvent) => string | number | null }[] =
  [
    { name: 'id', type: 'uuid', value: (event) => event.id },
    { name: 'at', type: 'timestamptz', value: (event) => event.at.toISOString() },
    { name: 'action', type: 'text', value: (event) => event.action },
    { name: 'actor_type', type: 'text', value: (event) => event.actor.type },
    { name: 'actor_id', type: 'text', value: (event) => event.actor.id },
    { name: 'organization_id', type: 'uuid', value: (event) => event.organizationId },
    { name: 'token_id', type: 'uuid', value: (event) => event.tokenId },
    { name: 'target_id', type: 'text', value: (event) => event.targetId },
    { name: 'ip', type: 'inet', value: (event) => event.ip },
    { name: 'user_agent', type: 'text', value: (event) => event.userAgent },
    { name: 'request_id', type: 'text', value: (event) => event.requestId },
    { name: 'reason', type: 'text', value: (event) => event.reason },
    { name: 'count', type: 'integer', value: (event) => event.count ?? 1 },
  ];
// A write that is tried again, its answer being lost, must not be in the trail twice.
const insertStatement = `INSERT INTO audit_events (${insertColumns.map(({ name }) => name).join(', ')})
  SELECT * FROM unnest(${insertColumns.map(({ type }) => `?::${type}[]`).join(', ')})
  ON CONFLICT DO NOTHING`;

const newestFirst = {
  expression: 'e.at',
  type: 'timestamptz',
  descending: true,
  id: 'e.id',
  idType: 'uuid',
} as const;

export type AuditEvents = ReturnType<typeof createAuditEvents>;

export function createAuditEvents(knex: Knex) {
  const trail = () => knex('audit_trail as e');

  return {
    async insert(events: readonly AuditEvent[], executor: Executor = knex): Promise<void> {
      if (events.length === 0) return;
      // A column is one array: a statement of constant length, whatever the number of events.
      await executor.raw(
        insertStatement,
        insertColumns.map(({ value }) => events.map(value) as string[]),
      );
    },

    /**
     * The same, newest first and to the end: in pages, each a query of its own, when it is asked for. No connection waits for
     * whoever reads slowly.
     */
    async *readAll(
      visibility: Visibility,
      filter: AuditFilter,
      limit: number = policy.exportPage,
    ): AsyncGenerator<ListedEvent[]> {
      let cursor: Cursor | undefined;
      do {
        const visible = await visibleTo(visibility, filter, knex);
        const filtered = trail().where(visible).where(matching(filter));
        const read = await readRows<Row, ListedEvent>(
          filtered,
          columns,
          newestFirst,
          { limit, cursor },
          toListedEvent,
          trail(),
        );
        if (read.data.length > 0) yield read.data;
        cursor = read.next;
      } while (cursor);
    },

    /** Exchanges have a table of their own; the view has both. */
    async list(visibility: Visibility, filter: AuditFilter, page: PageRequest): Promise<Page<ListedEvent>> {
      const filtered = trail()
        .where(await visibleTo(visibility, filter, knex))
        .where(matching(filter));
      return readPage<Row, ListedEvent>(filtered, columns, newestFirst, page, toListedEvent, {
        table: trail(),
        total: () => boundedCountOf(filtered, policy.exactTotal),
      });
    },
  };
}

/**
 * An organization's admins see its trail; a member sees that of their own tokens. Each case by itself, and the tokens by
 * their ids: beside an OR with a subquery, and in a join with a view, PostgreSQL would read the events of all organizations.
 */
async function visibleTo(
  visibility: Visibility,
  { tokenId }: AuditFilter,
  knex: Knex,
): Promise<(query: Knex.QueryBuilder) => void> {
  if (visibility.all) return () => {};
  const { userId, memberOf, adminOf } = visibility;
  // Where they are admins, the trail of their own tokens is the organization's.
  const onlyMemberOf = memberOf.filter((id) => !adminOf.includes(id));
  if (onlyMemberOf.length === 0) return (query) => void query.whereIn('e.organization_id', adminOf);
  const own = await knex('platform_tokens')
    .where('user_id', userId)
    .whereIn('organization_id', onlyMemberOf)
    .where(tokenId ? { id: tokenId } : {})
    .pluck('id');
  const ofOwn = knex.raw('e.token_id = ANY(?::uuid[])', [own]);
  if (adminOf.length === 0) return (query) => void query.where(ofOwn);
  return (query) => {
    query
      .whereIn('e.organization_id', memberOf)
      .where((either) => void either.whereIn('e.organization_id', adminOf).orWhere(ofOwn));
  };
}

function matching(filter: AuditFilter) {
  return (query: Knex.QueryBuilder): void => {
    if (filter.organizationId) query.where('e.organization_id', filter.organizationId);
    if (filter.actorId) query.where(byActor(filter.actorId));
    if (filter.action) query.where('e.action', filter.action);
    if (filter.tokenId) query.where('e.token_id', filter.tokenId);
    if (filter.from) query.where('e.at', '>=', filter.from);
    if (filter.to) query.where('e.at', '<', filter.to);
  };
}

/** Of an exchange the actor is the token, and the index is that of its `token_id`: in each table the condition that it serves. */
function byActor(id: string) {
  return (query: Knex.QueryBuilder): void => {
    query.whereRaw('(e.is_exchange OR e.actor_id = ?)', [id]);
    if (isUuid(id)) query.whereRaw('(NOT e.is_exchange OR e.token_id = ?::uuid)', [id]);
    else query.whereRaw('NOT e.is_exchange');
  };
}

interface Row {
  id: string;
  at: Date;
  action: string;
  actor_type: AuditEvent['actor']['type'];
  actor_id: string;
  organization_id: string | null;
  token_id: string | null;
  target_id: string | null;
  ip: string | null;
  user_agent: string | null;
  request_id: string | null;
  reason: string | null;
  count: number;
}

function toListedEvent(row: Row): ListedEvent {
  return {
    id: row.id,
    at: row.at,
    action: row.action,
    actor: { type: row.actor_type, id: row.actor_id },
    organizationId: row.organization_id,
    tokenId: row.token_id,
    targetId: row.target_id,
    ip: row.ip,
    userAgent: row.user_agent,
    requestId: row.request_id,
    reason: row.reason,
    count: row.count,
  };
}
