import type { Context, Middleware } from 'koa';
import type { KoaContextWithOIDC } from 'oidc-provider';
import { policy } from '../../config/policy.ts';
import { isDatabaseUnavailable } from '../storage/database.ts';
import { tokenExchangeGrant } from './metadata.ts';
import { OAuthError } from './oauth-error.ts';

export interface TokenEndpointDeps {
  readonly issuer: string;
  readonly onUnexpected: (error: unknown) => void;
}

/** What every answer of the token endpoint has in common: no caching, JSON, RFC 6749's errors. */
export function tokenEndpoint({ issuer, onUnexpected }: TokenEndpointDeps): Middleware {
  return async (ctx, next) => {
    ctx.state.route = '/oauth/token';
    // RFC 6749 §5.1
    ctx.set({ 'Cache-Control': 'no-store', Pragma: 'no-cache' });
    if (ctx.method !== 'POST') {
      ctx.set('Allow', 'POST');
      writeError(ctx, new OAuthError(405, 'invalid_request', 'the token endpoint takes POST'), issuer);
      return;
    }
    // The library would answer a browser's Accept header with a page.
    ctx.headers.accept = 'application/json';
    // The library would refuse every Origin, before authentication and with its name in the answer. There is no CORS
    // here (browsers keep other origins from reading the answer), and a request of the same origin sends one too.
    delete ctx.headers.origin;
    try {
      await next();
      ctx.remove('Access-Control-Allow-Origin');
      ctx.remove('Access-Control-Expose-Headers');
      ctx.remove('Vary');
      correct(ctx);
    } catch (error) {
      writeError(ctx, toOAuthError(error, onUnexpected), issuer);
    }
  };
}

const grantTypes = new Set([tokenExchangeGrant, 'client_credentials', 'authorization_code', 'refresh_token']);

/** Where the library's answer is not what the standard says. */
function correct(ctx: Context): void {
  const { client, params } = (ctx as unknown as KoaContextWithOIDC).oidc ?? {};
  const grantType = params?.grant_type;
  // RFC 6749 §5.2: unauthorized_client; the library says invalid_request.
  if (ctx.status === 400 && client && typeof grantType === 'string' && grantTypes.has(grantType)) {
    if (!client.grantTypeAllowed(grantType))
      throw new OAuthError(400, 'unauthorized_client', 'the client may not use this grant type');
  }
  const { error, scope = '' } = (ctx.body ?? {}) as { error?: string; scope?: string };
  // RFC 6749 §5.2: invalid_scope; the library leaves out a scope that it does not know, and grants the rest.
  if (ctx.status === 200 && grantType === 'client_credentials') {
    const granted = new Set(scope.split(' '));
    // RFC 6749 §3.3: without a scope the request fails: a token for nothing would hide the mistake.
    if (typeof params?.scope !== 'string') throw new OAuthError(400, 'invalid_scope', 'scope is missing');
    if (!params.scope.split(' ').every((wanted) => granted.has(wanted)))
      throw new OAuthError(400, 'invalid_scope', 'the client may not have this scope');
  }
  if (ctx.status === 401 && error === 'invalid_client') {
    throw new OAuthError(401, 'invalid_client', 'client authentication failed');
  }
}

function toOAuthError(error: unknown, onUnexpected: (error: unknown) => void): OAuthError {
  if (error instanceof OAuthError) return error;
  if (isDatabaseUnavailable(error)) {
    return new OAuthError(503, 'temporarily_unavailable', 'the database is out of reach; try again');
  }
  onUnexpected(error);
  return new OAuthError(500, 'server_error', 'the server met an unexpected condition');
}

function writeError(ctx: Context, error: OAuthError, issuer: string): void {
  ctx.status = error.status;
  if (error.status === 503) ctx.set('Retry-After', String(policy.retryAfter));
  // RFC 6749 §5.2, RFC 9110 §11.6.1: a 401 names the scheme.
  if (error.status === 401) ctx.set('WWW-Authenticate', `Basic realm="${issuer}", charset="UTF-8"`);
  ctx.body = { error: error.error, error_description: error.description };
}
