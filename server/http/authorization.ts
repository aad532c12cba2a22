import type { IncomingMessage } from 'node:http';
import type { Middleware } from 'koa';
import { Problem } from './problem.ts';

/** Node keeps the first of several Authorization headers: the others would be credentials that nobody checks. */
export function repeatsAuthorization(request: IncomingMessage): boolean {
  return (
    request.headers.authorization !== undefined && (request.headersDistinct.authorization?.length ?? 0) > 1
  );
}

/** RFC 6750 §2: one way of sending credentials in a request. */
export const refuseRepeatedAuthorization: Middleware = async (ctx, next) => {
  if (repeatsAuthorization(ctx.req)) {
    throw new Problem({ status: 400, title: 'Bad Request', detail: 'More than one Authorization header.' });
  }
  await next();
};
