import type { JWTPayload } from 'jose';
import type { Context, Middleware } from 'koa';
import { remainingLife } from '../domain/exchange-policy.ts';
import { isUuid } from '../domain/uuid.ts';
import { type AccessTokenDeps, createAccessTokens, scopesOf } from '../http/access-tokens.ts';
import type { Client } from '../storage/clients.ts';
import type { PlatformTokens } from '../storage/platform-tokens.ts';
import { authenticateClient, readCredentials, refuseSecondAuthorization } from './client-authentication.ts';
import type { FailureLimits } from './failure-limits.ts';
import { readSingleForm } from './form.ts';
import { adminAudience } from './metadata.ts';
import { invalidRequest, OAuthError } from './oauth-error.ts';
import { signJwt } from './sign-jwt.ts';

export interface IntrospectionDeps extends AccessTokenDeps {
  readonly platformTokens: PlatformTokens;
  readonly failureLimits: FailureLimits;
}

type Answer = { readonly active: false } | ({ readonly active: true } & Readonly<Record<string, unknown>>);

const signedType = 'application/token-introspection+jwt';
const inactive = { active: false } as const;

/** `POST /oauth/introspect` (RFC 7662), with the signed answer of RFC 9701. */
export function introspection(deps: IntrospectionDeps): Middleware {
  const { issuer, keySet, clients, platformTokens, failureLimits, clock } = deps;
  const accessTokens = createAccessTokens(deps);

  return async (ctx) => {
    const form = await readSingleForm(ctx);
    refuseSecondAuthorization(ctx.req);
    const credentials = readCredentials(ctx.headers, form);
    failureLimits.admitClient(ctx, credentials);
    const client = await authenticateClient(clients, credentials);
    requireIntrospect(client);
    // RFC 7662 §2.1. `token_type_hint` is ignored, as it allows: there is one kind of token that can be active here.
    if (form.token === undefined) throw invalidRequest('token is missing');
    await write(ctx, client, await inspect(form.token, client));
  };

  /**
   * RFC 7662 §2.2: whatever is no good access token of this client's concern is inactive, and nothing more is said. That
   * takes in platform tokens and refresh tokens: a product API has no business with them.
   */
  async function inspect(token: string, client: Client): Promise<Answer> {
    const claims = await accessTokens.verify(token);
    if (!claims) return inactive;
    return claims.token_id === undefined ? inspectAdmin(claims, client) : inspectProduct(claims, client);
  }

  /** A platform token's access token is as good as the platform token is now. */
  async function inspectProduct(claims: JWTPayload, client: Client): Promise<Answer> {
    if (!isUuid(claims.token_id)) return inactive;
    const subject = await platformTokens.findPresent(claims.token_id);
    if (!subject || remainingLife(subject, clock()) < 1 || claims.aud !== subject.audience) return inactive;
    // RFC 7662 §4: a protected resource learns of the tokens that are meant for it.
    if (client.serviceId !== null && client.serviceId !== subject.serviceId) return inactive;
    return active(claims, [...scopesOf(claims)]);
  }

  /** An access token of the admin API, by the admin API's own rules. */
  async function inspectAdmin(claims: JWTPayload, client: Client): Promise<Answer> {
    if (client.serviceId !== null || claims.aud !== adminAudience(issuer)) return inactive;
    const holder = await accessTokens.findHolder(claims);
    if (!holder) return inactive;
    // A machine without a scope can do nothing.
    return holder.type === 'user' || holder.scopes.size > 0 ? active(claims, [...holder.scopes]) : inactive;
  }

  async function write(ctx: Context, { id }: Client, answer: Answer): Promise<void> {
    ctx.set('Vary', 'Accept');
    if (ctx.accepts('application/json', signedType) !== signedType) {
      ctx.body = answer;
      return;
    }
    // RFC 9701 §5: no `sub` and no `exp` beside the answer, so that nobody takes it for an access token.
    const iat = Math.floor(clock().getTime() / 1000);
    const claims = { iss: issuer, aud: id, iat, token_introspection: answer };
    ctx.body = await signJwt(keySet(), 'token-introspection+jwt', claims);
    ctx.type = signedType;
  }
}

/**
 * RFC 7662 §2.1 wants the caller authorized, and §2.3 says 401 for credentials that are wrong, nothing for a client that
 * is who it says and may not ask. That is 403 (RFC 9110 §15.5.4: other credentials would help, the same ones would not),
 * with the registered word for it (RFC 6750 §3.1); no challenge, because its scheme was not Bearer.
 */
function requireIntrospect(client: Client): void {
  if (!client.scopes.includes('introspect'))
    throw new OAuthError(403, 'insufficient_scope', 'the client may not introspect');
}

/** RFC 7662 §2.2. */
function active(claims: JWTPayload, scopes: readonly string[]): Answer {
  const { client_id, sub, aud, iss, exp, iat, jti, org_id, token_id } = claims;
  const scope = scopes.join(' ');
  return {
    active: true,
    scope,
    client_id,
    sub,
    aud,
    iss,
    exp,
    iat,
    jti,
    token_type: 'Bearer',
    org_id,
    token_id,
  };
}
