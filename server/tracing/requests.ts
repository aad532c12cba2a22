import { SpanStatusCode } from '@opentelemetry/api';
import type { Middleware } from 'koa';
import { isFailure } from '../http/request-log.ts';
import { readTraceParent } from '../http/trace-context.ts';
import type { RemoteParent, Spans } from './tracing.ts';

const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'CONNECT']);
/** W3C Trace Context §3.3.1.5: what is longer may be cut, and here is left out. */
const stateAtMost = 512;

/**
 * A span for every request, by OpenTelemetry's conventions for HTTP, as far as they let no secret out: the route's pattern
 * and never the path, no query, no header.
 */
export function traceRequests(spans: Spans): Middleware {
  return (ctx, next) => {
    const method = methods.has(ctx.method) ? ctx.method : '_OTHER';
    const attributes = { 'http.request.method': method };
    return spans.request(remoteParent(ctx.headers), attributes, (span) => {
      const { traceId, spanId } = span.spanContext();
      ctx.state.traceId = traceId;
      ctx.state.spanId = spanId;
      ctx.res.on('close', () => {
        const route = ctx.state.route ?? ctx._matchedRoute;
        const status = ctx.res.headersSent ? ctx.res.statusCode : 499;
        span.updateName(typeof route === 'string' ? `${method} ${route}` : method);
        if (typeof route === 'string') span.setAttribute('http.route', route);
        span.setAttribute('http.response.status_code', status);
        span.setAttribute('platform_tokens.request_id', ctx.state.requestId);
        if (isFailure(status)) {
          span.setAttribute('error.type', String(status));
          span.setStatus({ code: SpanStatusCode.ERROR });
        }
        span.end();
      });
      return next();
    });
  };
}

function remoteParent(headers: { [name: string]: string | string[] | undefined }): RemoteParent | undefined {
  const parent = readTraceParent(headers.traceparent);
  if (!parent) return undefined;
  const { tracestate } = headers;
  const state = typeof tracestate === 'string' && tracestate.length <= stateAtMost ? tracestate : undefined;
  return { ...parent, state };
}
