import { type Span, SpanKind } from '@opentelemetry/api';
import type { Database } from '../storage/database.ts';
import type { PlatformTokens } from '../storage/platform-tokens.ts';
import { endSpan, type Spans } from './tracing.ts';

interface KnexQuery {
  readonly sql: string;
  readonly __knexQueryUid: string;
}

/** More than can be under way: what would be lost is a span, not memory. */
const queriesAtMost = 10_000;

/** Spans of the queries of a request: operation and table, never the statement's values. */
export function traceQueries(spans: Spans, { knex, lookups }: Pick<Database, 'knex' | 'lookups'>) {
  const underWay = new Map<string, Span>();
  const askedBy = new WeakMap<Buffer, Span>();
  const end = ({ __knexQueryUid: uid }: KnexQuery, error?: unknown) => {
    endSpan(underWay.get(uid), error);
    underWay.delete(uid);
  };
  knex.on('query', (query: KnexQuery) => {
    const span = spans.start(...querySpan(query.sql));
    if (span && underWay.size < queriesAtMost) underWay.set(query.__knexQueryUid, span);
  });
  knex.on('query-response', (_response: unknown, query: KnexQuery) => end(query));
  knex.on('query-error', (error: unknown, query: KnexQuery) => end(query, error));

  const query = lookups.query.bind(lookups) as (statement: Statement) => Promise<unknown>;
  lookups.query = ((statement: Statement) => askTogether(statement)) as never;

  /**
   * One query for the tokens of many requests: below the look-up of the first, with links to the look-ups of all.
   * What asks is no request that waits: where all connections are taken, it is the end of a query of others.
   */
  async function askTogether(statement: Statement): Promise<unknown> {
    const first = typeof statement === 'object' ? statement.values?.[0] : undefined;
    const keys: unknown[] = Array.isArray(first) ? first : [];
    const waiting = keys.flatMap((key) => (Buffer.isBuffer(key) && askedBy.get(key)) || []);
    const [name, options] = querySpan(typeof statement === 'object' ? statement.text : statement);
    const links = waiting.map((one) => ({ context: one.spanContext() }));
    const span = spans.start(name, { ...options, links }, waiting[0]);
    for (const one of span ? [span, ...waiting] : waiting)
      one.setAttribute('db.operation.batch.size', keys.length);
    return settle(span, query(statement));
  }

  return {
    /** A look-up from the question to the answer, as the request waits for it. */
    lookups(platformTokens: PlatformTokens): PlatformTokens {
      return {
        ...platformTokens,
        findForExchange(digest) {
          const span = spans.start('look up platform token', { kind: SpanKind.INTERNAL });
          if (span) askedBy.set(digest, span);
          return settle(span, platformTokens.findForExchange(digest));
        },
        findPresent(id) {
          const span = spans.start('look up platform token', { kind: SpanKind.INTERNAL });
          return settle(span, platformTokens.findPresent(id));
        },
      };
    },
  };
}

type Statement = string | { readonly text: string; readonly values?: readonly unknown[] };

async function settle<T>(span: Span | undefined, work: Promise<T>): Promise<T> {
  try {
    const result = await work;
    endSpan(span);
    return result;
  } catch (error) {
    endSpan(span, error);
    throw error;
  }
}

/** By the first word and the first table: names out of the code, whatever the values are. */
function querySpan(sql: string): [string, { kind: SpanKind; attributes: Record<string, string> }] {
  const operation = /^\s*([a-z]+)/i.exec(sql)?.[1]?.toUpperCase() ?? 'QUERY';
  const table = /\b(?:from|into|update|join)\s+"?([a-z_]+)"?/i.exec(sql)?.[1];
  const attributes = {
    'db.system.name': 'postgresql',
    'db.operation.name': operation,
    ...(table === undefined ? {} : { 'db.collection.name': table }),
  };
  return [table === undefined ? operation : `${operation} ${table}`, { kind: SpanKind.CLIENT, attributes }];
}
