import { createHash, timingSafeEqual } from 'node:crypto';
import type Router from '@koa/router';
import type { Context } from 'koa';
import { Problem } from './problem.ts';
import { createRouter } from './router.ts';

export interface MetricsRouteDeps {
  readonly issuer: string;
  /** What opens it; undefined for everybody. */
  readonly token: string | undefined;
  /** Media types in the order in which they are preferred, and how to write each. */
  readonly formats: readonly { readonly type: string; readonly write: () => Promise<string> }[];
}

/** `GET /metrics`, for a Prometheus that may know the token. */
export function metricsRoutes({ issuer, token, formats }: MetricsRouteDeps): Router {
  const router = createRouter();
  const expected = token === undefined ? undefined : digest(token);
  router.get('/metrics', async (ctx) => {
    ctx.set('Cache-Control', 'no-store');
    if (expected && !presents(ctx, expected)) {
      throw new Problem({
        status: 401,
        title: 'Unauthorized',
        detail: 'The metrics are for the bearer of METRICS_TOKEN.',
        headers: { 'WWW-Authenticate': `Bearer realm="${issuer}"` },
      });
    }
    ctx.vary('Accept');
    const accepted = ctx.accepts(formats.map(({ type }) => type.replace(/; charset=.*/, '')));
    const format = formats.find(({ type }) => accepted && type.startsWith(accepted)) ?? formats[0];
    if (!format) throw new Error('no format');
    const text = await format.write();
    ctx.set('Content-Type', format.type);
    ctx.body = text;
  });
  return router;
}

/** In constant time, over digests: neither the length nor a beginning that is right shows. */
function presents(ctx: Context, expected: Buffer): boolean {
  const token = /^Bearer +(\S+)$/i.exec(ctx.get('Authorization'))?.[1];
  return token !== undefined && timingSafeEqual(digest(token), expected);
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
