import { decodeProtectedHeader } from 'jose';
import type { Context, Middleware } from 'koa';
import type Provider from 'oidc-provider';
import { isPlatformTokenFormat } from '../domain/platform-token.ts';
import { requestEvent } from '../http/request-event.ts';
import type { Artifacts } from '../storage/artifacts.ts';
import type { Clients } from '../storage/clients.ts';
import type { Transact } from '../storage/database.ts';
import { type RevocationStores, revokeWithTrail } from '../storage/revocation.ts';
import { digest } from './adapter.ts';
import { tolerateBearer } from './anonymous-client.ts';
import { identifyClient, readCredentials, refuseSecondAuthorization } from './client-authentication.ts';
import type { FailureLimits } from './failure-limits.ts';
import { readSingleForm } from './form.ts';
import { invalidClient, invalidRequest, OAuthError } from './oauth-error.ts';

export interface RevocationDeps extends RevocationStores {
  readonly provider: () => Provider;
  readonly clients: Clients;
  readonly artifacts: Artifacts;
  readonly failureLimits: FailureLimits;
  readonly transaction: Transact;
  readonly clock: () => Date;
}

const reason = 'presented for revocation';

/** `POST /oauth/revoke` (RFC 7009). */
export function revocation({
  provider,
  clients,
  artifacts,
  failureLimits,
  transaction,
  clock,
  ...stores
}: RevocationDeps): Middleware {
  return async (ctx) => {
    const form = await readSingleForm(ctx);
    refuseSecondAuthorization(ctx.req);
    const { token } = form;
    // RFC 7009 §2.1. `token_type_hint` is ignored, as it allows: the token itself shows what it is.
    if (token === undefined) throw invalidRequest('token is missing');
    tolerateBearer(ctx, 'token', form);
    // RFC 7009 §2.2.1: a JWT is verified offline. What revokes it is its platform token, or the user's sign-out.
    const presented = isJwt(token) ? undefined : failureLimits.admitToken(ctx, token);
    const credentials = readCredentials(ctx.headers, form);
    failureLimits.admitClient(ctx, credentials);
    const clientId = await identifyClient(clients, credentials);
    if (!presented)
      throw new OAuthError(400, 'unsupported_token_type', 'access tokens end with what they were made from');
    const found = isPlatformTokenFormat(token)
      ? await revokePlatformToken(ctx, presented)
      : await revokeRefreshToken(ctx, token, clientId);
    // One that has ended already is as good as unknown: a limit for one of them would tell them apart.
    if (!found) failureLimits.tokenFailed(ctx, presented);
    // RFC 7009 §2.2: so too for a token that is unknown or revoked already; what the client wants is so.
    ctx.body = null;
    ctx.status = 200;
  };

  /** Platform tokens were issued to no client (RFC 7009 §2.1): whoever holds one may end it, so a finder of a leak too. */
  async function revokePlatformToken(ctx: Context, presented: Buffer): Promise<boolean> {
    const found = await stores.platformTokens.findForExchange(presented);
    if (!found || found.revokedAt) return false;
    const { id, organizationId } = found;
    const at = clock();
    const actor = { type: 'token', id } as const;
    const event = () =>
      requestEvent(ctx, { at, action: 'token.revoked', actor, organizationId, tokenId: id, reason });
    await transaction((tx) =>
      revokeWithTrail(
        stores,
        { choice: { ids: [id] }, visibility: { all: true }, actorId: id, at, event },
        tx,
      ),
    );
    return true;
  }

  /** RFC 7009 §2.1: by the client that it was issued to, and with it all that came from the same grant. */
  async function revokeRefreshToken(
    ctx: Context,
    token: string,
    clientId: string | undefined,
  ): Promise<boolean> {
    const { RefreshToken } = provider();
    const found = await RefreshToken.find(token);
    if (!found) return false;
    if (clientId === undefined) throw invalidClient();
    // RFC 6749 §5.2
    if (found.clientId !== clientId)
      throw new OAuthError(400, 'invalid_grant', 'the token was issued to another client');
    const event = requestEvent(ctx, {
      at: clock(),
      action: 'grant.revoked',
      actor: { type: 'client', id: clientId },
      targetId: String(found.accountId),
      reason,
    });
    await transaction(async (tx) => {
      // Of presentations at once, one has ended it.
      if (await artifacts.deleteWithGrant('RefreshToken', digest(token), tx))
        await stores.auditEvents.insert([event], tx);
    });
    return true;
  }
}

/** Signed or encrypted (RFC 7519 §3), whoever made it. */
function isJwt(token: string): boolean {
  try {
    decodeProtectedHeader(token);
    return true;
  } catch {
    return false;
  }
}
