import type { Context, Middleware } from 'koa';
import type { LimitName, Limits } from '../../config/policy.ts';
import { networkOf } from '../domain/network.ts';
import { clientAddress } from '../http/client-address.ts';
import { type Refusal, type RefusalReports, refusalFields } from '../http/rate-limit.ts';
import type { SharedCounters } from '../storage/shared-counters.ts';
import { cookiesFor } from './cookies.ts';
import type { Pace } from './pace.ts';
import { prefersHtml, writeNotice } from './page.ts';

/** Counts an authorization request, or a request to sign out. @returns the refusal where it is one too many */
export type AuthorizationLimit = (ctx: Context) => Refusal | undefined;

export interface AuthorizationLimitDeps {
  readonly issuer: string;
  readonly limits: Limits;
  readonly sharedCounters: SharedCounters;
  readonly reports: RefusalReports;
}

const limit: LimitName = 'authorizations';

/**
 * Each authorization request leaves a row, and each request to sign out, whoever sends it. A browser that has signed in before is counted by its user: no flood
 * from the address that it shares keeps it out.
 */
export function createAuthorizationLimit({
  issuer,
  limits,
  sharedCounters,
  reports,
}: AuthorizationLimitDeps): AuthorizationLimit {
  const { readKnownBrowser } = cookiesFor(issuer);
  const counter = sharedCounters.counter(limit, limits[limit]);
  return (ctx) => {
    const key = readKnownBrowser(ctx)?.userId ?? networkOf(clientAddress(ctx));
    if (counter.used(key) >= limits[limit].points) {
      return reports.report({ limit, wait: counter.wait(key) }, key);
    }
    counter.add(key);
    return undefined;
  };
}

/** In front of the endpoints that browsers are sent to. No redirect carries the refusal: nobody has looked at the `redirect_uri` yet. */
export function limitAuthorizations(
  issuer: string,
  limits: Limits,
  countAuthorization: AuthorizationLimit,
  paceRefusal: Pace,
): Middleware {
  return async (ctx, next) => {
    const refusal = countAuthorization(ctx);
    if (!refusal) return next();
    await paceRefusal();
    ctx.set(refusalFields(refusal, limits[limit]));
    if (prefersHtml(ctx)) {
      writeNotice(ctx, {
        status: 429,
        title: 'tooManyAttempts',
        text: (texts) => texts.tryAgainIn(Math.ceil(refusal.wait / 60)),
        way: { text: 'startAgain', href: `${issuer}/dashboard` },
      });
      return;
    }
    ctx.status = 429;
    ctx.set('Cache-Control', 'no-store');
    ctx.body = { error: 'too_many_requests', error_description: 'too many requests; try again later' };
  };
}
