import { isIP } from 'node:net';
import type { Context } from 'koa';

/**
 * The caller's address, without the zone of a link-local one; null where a proxy's header holds something else: the
 * audit trail's column would refuse it.
 */
export function clientAddress(ctx: Pick<Context, 'ip'>): string | null {
  const address = ctx.ip?.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '') ?? '';
  return isIP(address) ? address : null;
}
