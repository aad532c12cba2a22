import type { Middleware } from 'koa';
import { Problem } from './problem.ts';

// RFC 3986 §3.2.2, §3.2.3; empty for a target without an authority.
const hostPattern = /^(?:\[[\da-f:.]+\]|[\w.~%!$&'()*+,;=-]*)(?::\d*)?$/i;

/** Node.js keeps the first of several. */
function repeatsHost(rawHeaders: readonly string[]): boolean {
  let count = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string;
    if (name.length === 4 && name.toLowerCase() === 'host') count += 1;
  }
  return count > 1;
}

/**
 * Brings the request target to one form before anything reads it: absolute-form becomes origin-form (RFC 9112
 * §3.2.2), and what is no target, or has not one valid Host (§3.2), is 400. Further in, a URL that does not parse would be thrown by
 * whoever asks first.
 */
export const requestTarget: Middleware = (ctx, next) => {
  const target = ctx.req.url ?? '/';
  const { host } = ctx.req.headers;
  if (host === undefined && ctx.req.httpVersion === '1.1') throw badTarget('The Host header is missing.');
  if (host !== undefined && (!hostPattern.test(host) || repeatsHost(ctx.req.rawHeaders)))
    throw badTarget('The Host header is not valid.');
  if (!target.startsWith('/')) ctx.req.url = ctx.originalUrl = ctx.request.originalUrl = toOriginForm(target);
  // PostgreSQL has no NUL in text, so no query could be asked with it.
  if (/%00/.test(target)) throw badTarget('NUL in the URL.');
  return next();
};

function toOriginForm(target: string): string {
  // RFC 9110 §4.2.1: with a host; a URL parser would take the first segment of the path for one.
  if (!/^https?:\/\/[^/?#]/i.test(target) || !URL.canParse(target))
    throw badTarget('The request target is not valid.');
  const { pathname, search } = new URL(target);
  return pathname + search;
}

function badTarget(detail: string): Problem {
  return new Problem({ status: 400, title: 'Bad Request', detail });
}
