import type { Context, Middleware } from 'koa';
import type { KoaContextWithOIDC } from 'oidc-provider';
import { type ClientEvents, foundClientId } from './client-events.ts';
import type { FailureLimits } from './failure-limits.ts';
import { tokenExchangeGrant } from './metadata.ts';
import { invalidClient, OAuthError } from './oauth-error.ts';

/** Prepares a token request for the library, and corrects its answer. */
export function tokenEndpoint(failureLimits: FailureLimits, clientEvents: ClientEvents): Middleware {
  return async (ctx, next) => {
    // The library would answer a browser's Accept header with a page.
    ctx.headers.accept = 'application/json';
    // The library would refuse every Origin, before authentication and with its name in the answer. There is no CORS
    // here (browsers keep other origins from reading the answer), and a request of the same origin sends one too. It
    // leaves the matter alone where an answer has one of these fields already.
    ctx.res.setHeader('Access-Control-Allow-Origin', 'null');
    try {
      await next();
    } finally {
      ctx.res.removeHeader('Access-Control-Allow-Origin');
    }
    correct(ctx);
    if (ctx.status === 400 && (ctx.body as { error?: string })?.error === 'invalid_grant')
      failureLimits.grantFailed(ctx);
    const clientId = foundClientId(ctx);
    if (ctx.status === 200 && clientId !== undefined && ctx.state.grantType === 'client_credentials')
      clientEvents.issued(ctx, clientId);
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
  if (ctx.status === 401 && error === 'invalid_client') throw invalidClient(client?.clientId);
}
