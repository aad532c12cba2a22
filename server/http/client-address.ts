import { isIP } from 'node:net';
import type { Context } from 'koa';

/** The caller's address; null where a proxy's header holds something else: it would break the audit trail's column. */
export function clientAddress(ctx: Pick<Context, 'ip'>): string | null {
  const address = ctx.ip?.replace(/^::ffff:(?=\d+\.)/i, '') ?? '';
  return isIP(address) ? address : null;
}
