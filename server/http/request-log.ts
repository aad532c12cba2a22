import { randomUUID } from 'node:crypto';
import type { Middleware } from 'koa';
import type { Logger } from 'pino';
import { clientAddress } from './client-address.ts';

declare module 'koa' {
  interface DefaultState {
    requestId: string;
    /** Pattern of the route that answered, for logs and metrics: a path may carry what must not be kept. */
    route?: string;
  }
}

// Honoured only in this shape: a header that could be a credential must not become an id.
const foreignRequestId = /^[0-9a-f-]{16,64}$/i;

/** A request id, and one structured line a request: never a query, a body, a header's credential. */
export function requestLog(logger: Logger): Middleware {
  return (ctx, next) => {
    const started = performance.now();
    const foreign = ctx.get('X-Request-Id');
    const requestId = foreignRequestId.test(foreign) ? foreign : randomUUID();
    ctx.state.requestId = requestId;
    ctx.res.setHeader('X-Request-Id', requestId);
    const ip = clientAddress(ctx);
    ctx.res.on('close', () => {
      const aborted = !ctx.res.writableFinished;
      const line = {
        request_id: requestId,
        method: ctx.method,
        route: ctx.state.route ?? ctx._matchedRoute ?? 'unmatched',
        // 499, as proxies write it: the client went away before it had an answer.
        status: aborted && !ctx.res.headersSent ? 499 : ctx.res.statusCode,
        duration_ms: Math.round((performance.now() - started) * 100) / 100,
        ip,
        ...(aborted ? { aborted } : {}),
      };
      if (ctx.res.statusCode >= 500) logger.error(line, 'request');
      else logger.info(line, 'request');
    });
    return next();
  };
}
