import type { Context, Middleware } from 'koa';
import { policy } from '../../config/policy.ts';
import { isDatabaseFault, isDatabaseUnavailable } from '../storage/database.ts';
import type { ClientEvents } from './client-events.ts';
import type { FailureLimits } from './failure-limits.ts';
import { OAuthError } from './oauth-error.ts';
import type { Pace } from './pace.ts';

export interface FormEndpointDeps {
  readonly issuer: string;
  readonly failureLimits: FailureLimits;
  readonly paceRefusal: Pace;
  readonly clientEvents: ClientEvents;
  readonly onUnexpected: (error: unknown, ctx: Context) => void;
}

/**
 * What every answer of an OAuth endpoint that takes a form has in common: no caching, JSON, RFC 6749's errors, and that client
 * authentication which fails is counted, and refusals leave at their pace.
 */
export function formEndpoint(
  path: string,
  { issuer, failureLimits, paceRefusal, clientEvents, onUnexpected }: FormEndpointDeps,
): Middleware {
  return async (ctx, next) => {
    ctx.state.route = path;
    // RFC 6749 §5.1
    ctx.res.setHeader('Cache-Control', 'no-store');
    ctx.res.setHeader('Pragma', 'no-cache');
    try {
      if (ctx.method !== 'POST') throw notPost;
      await next();
      if (ctx.status === 200) failureLimits.clientSucceeded(ctx);
    } catch (error) {
      const refused = toOAuthError(error, (unexpected) => onUnexpected(unexpected, ctx));
      if (refused.status === 401) clientEvents.refused(ctx, refused.clientId);
      writeError(ctx, refused.status === 401 ? failureLimits.clientFailed(ctx, refused) : refused, issuer);
    }
    if (ctx.state.failed || (ctx.status >= 400 && ctx.status < 500)) await paceRefusal();
  };
}

const notPost = new OAuthError(405, 'invalid_request', 'this endpoint takes POST', { Allow: 'POST' });

function toOAuthError(error: unknown, onUnexpected: (error: unknown) => void): OAuthError {
  if (error instanceof OAuthError) return error;
  if (isDatabaseUnavailable(error)) {
    if (isDatabaseFault(error)) onUnexpected(error);
    return new OAuthError(503, 'temporarily_unavailable', 'the database is out of reach; try again');
  }
  onUnexpected(error);
  return new OAuthError(500, 'server_error', 'the server met an unexpected condition');
}

function writeError(ctx: Context, error: OAuthError, issuer: string): void {
  ctx.status = error.status;
  if (error.fields) ctx.set(error.fields);
  if (error.status === 503) ctx.set('Retry-After', String(policy.retryAfter));
  // RFC 6749 §5.2, RFC 9110 §11.6.1: a 401 names the scheme.
  if (error.status === 401) ctx.set('WWW-Authenticate', `Basic realm="${issuer}", charset="UTF-8"`);
  ctx.body = { error: error.error, error_description: error.description };
}
