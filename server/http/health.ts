import type Router from '@koa/router';
import { policy } from '../../config/policy.ts';
import { createRouter } from './router.ts';

export interface HealthDeps {
  /** Why the server cannot work; empty where it can. */
  readonly faults: () => Promise<string[]>;
  /** Whether the server is on its way out. */
  readonly stopping: () => boolean;
}

/** Liveness says that the process answers; readiness, that it can do its work. */
export function healthRoutes({ faults, stopping }: HealthDeps): Router {
  const router = createRouter();
  let looking: Promise<string[]> | undefined;
  /** One look at a time, however many ask: it takes a connection that exchanges need. */
  const look = () => {
    looking ??= faults().finally(() => {
      looking = undefined;
    });
    return looking;
  };
  router.get('/health/live', (ctx) => {
    ctx.set('Cache-Control', 'no-store');
    ctx.body = { status: 'ok' };
  });
  router.get('/health/ready', async (ctx) => {
    ctx.set('Cache-Control', 'no-store');
    const reasons = stopping() ? ['stopping'] : await look();
    ctx.status = reasons.length === 0 ? 200 : 503;
    if (reasons.length > 0) ctx.set('Retry-After', String(policy.retryAfter));
    ctx.body = reasons.length === 0 ? { status: 'ok' } : { status: 'unavailable', reasons };
  });
  return router;
}
