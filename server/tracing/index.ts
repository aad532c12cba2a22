import { SpanKind } from '@opentelemetry/api';
import type { Middleware } from 'koa';
import type { Logger } from 'pino';
import type { TracingConfig } from '../../config/env.ts';
import type { Database } from '../storage/database.ts';
import type { PlatformTokens } from '../storage/platform-tokens.ts';
import { traceQueries } from './database.ts';
import { traceRequests } from './requests.ts';
import { endSpan, openSpans, type Spans } from './tracing.ts';

/** What the application puts around its parts where requests are traced. */
export interface Tracing {
  readonly requests: Middleware;
  /** The same, and each call is a span of the request that makes it. */
  traced<A extends unknown[], R>(name: string, work: (...args: A) => Promise<R>): (...args: A) => Promise<R>;
  readonly fetch: typeof fetch;
  queries(database: Database): { lookups(platformTokens: PlatformTokens): PlatformTokens };
  close(): Promise<void>;
}

export function openTracing(config: TracingConfig, logger: Logger): Tracing {
  const spans = openSpans(config, logger);
  return {
    requests: traceRequests(spans),
    traced:
      (name, work) =>
      async (...args) => {
        const span = spans.start(name, { kind: SpanKind.INTERNAL });
        try {
          const result = await work(...args);
          endSpan(span);
          return result;
        } catch (error) {
          endSpan(span, error);
          throw error;
        }
      },
    fetch: traceFetch(spans),
    queries: (database) => traceQueries(spans, database),
    close: spans.close,
  };
}

/** A request of ours to somebody else: whom, and what came of it; not which path, and without telling them of the trace. */
function traceFetch(spans: Spans): typeof fetch {
  return async (input, init) => {
    const { hostname } = new URL(input instanceof Request ? input.url : input);
    const method = init?.method ?? 'GET';
    const attributes = { 'http.request.method': method, 'server.address': hostname };
    const span = spans.start(method, { kind: SpanKind.CLIENT, attributes });
    try {
      const response = await fetch(input, init);
      span?.setAttribute('http.response.status_code', response.status);
      endSpan(span);
      return response;
    } catch (error) {
      endSpan(span, error);
      throw error;
    }
  };
}
