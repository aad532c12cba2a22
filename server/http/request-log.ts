import { randomUUID } from 'node:crypto';
import type { Context, Middleware } from 'koa';
import type { Logger } from 'pino';
import { clientAddress } from './client-address.ts';
import { readTraceParent } from './trace-context.ts';

declare module 'koa' {
  interface DefaultState {
    requestId: string;
    /** Of the trace that the request is part of (W3C Trace Context), and of its span in it, where there is one. */
    traceId?: string;
    spanId?: string;
    /** Pattern of the route that answered, for logs and metrics: a path may carry what must not be kept. */
    route?: string;
  }
}

// Honoured only in this shape: a header that could be a credential must not become an id.
const foreignRequestId = /^[0-9a-f-]{16,64}$/i;

/** What a log line about a request says of it: with it all lines of one request are found. */
export function requestMarks({ state }: Context): object {
  // A request that was let go of has nothing left to tell.
  return state ? { request_id: state.requestId, ...traceMarks(state) } : none;
}

const none = {};

function traceMarks({ traceId, spanId }: Context['state']): object {
  if (traceId === undefined) return none;
  return spanId === undefined ? { trace_id: traceId } : { trace_id: traceId, span_id: spanId };
}

/** Who is told of every request; what it does is part of the request's time. */
export interface RequestObserver {
  started(): void;
  /** @param route its pattern; @param status 499 where the client went away before it had an answer */
  ended(ctx: Context, route: string, status: number, seconds: number): void;
}

/** What only repeats that the server is watched. */
const quietRoutes = new Set(['/metrics']);

/** Of the server. A 501 is none: somebody asks for what there is not. */
export const isFailure = (status: number) => status >= 500 && status !== 501;

/** A request id, and one structured line a request: never a query, a body, a header's credential. */
export function requestLog(logger: Logger, observer?: RequestObserver): Middleware {
  return (ctx, next) => {
    const started = performance.now();
    observer?.started();
    const foreign = ctx.get('X-Request-Id');
    const requestId = foreignRequestId.test(foreign) ? foreign : randomUUID();
    ctx.state.requestId = requestId;
    const caller = readTraceParent(ctx.headers.traceparent);
    if (caller) ctx.state.traceId = caller.traceId;
    ctx.res.setHeader('X-Request-Id', requestId);
    const ip = clientAddress(ctx);
    ctx.res.on('close', () => {
      const aborted = !ctx.res.writableFinished;
      const route = ctx.state.route ?? ctx._matchedRoute ?? 'unmatched';
      // 499, as proxies write it: the client went away before it had an answer.
      const status = aborted && !ctx.res.headersSent ? 499 : ctx.res.statusCode;
      const duration = performance.now() - started;
      observer?.ended(ctx, route, status, duration / 1000);
      const line = {
        request_id: requestId,
        ...traceMarks(ctx.state),
        method: ctx.method,
        route,
        status,
        duration_ms: Math.round(duration * 100) / 100,
        ip,
        ...(aborted ? { aborted } : {}),
      };
      if (isFailure(ctx.res.statusCode)) logger.error(line, 'request');
      else if (quietRoutes.has(route)) logger.debug(line, 'request');
      else logger.info(line, 'request');
    });
    return next();
  };
}
