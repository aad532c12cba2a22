import type { Context, Middleware } from 'koa';
import type Provider from 'oidc-provider';
import type { Configuration, KoaContextWithOIDC } from 'oidc-provider';
import { requestEvent } from '../http/request-event.ts';
import type { AuditEvents } from '../storage/audit-events.ts';
import { cookiesFor } from './cookies.ts';
import { Html, html, writePage } from './page.ts';

type Pages = NonNullable<NonNullable<Configuration['features']>['rpInitiatedLogout']>;
type OidcContext = KoaContextWithOIDC['oidc'];
type Session = NonNullable<OidcContext['session']>;

export interface SignOutDeps {
  readonly issuer: string;
  readonly auditEvents: AuditEvents;
  readonly clock: () => Date;
}

/**
 * OpenID Connect RP-Initiated Logout 1.0 §2: the pages, without the library's scripts, and without the question where
 * the client has shown by an ID token whom it means.
 */
export function signOutPages(deps: SignOutDeps): Pages {
  const { issuer } = deps;
  const { names, long } = cookiesFor(issuer);
  return {
    async logoutSource(ctx, form) {
      const { session, provider } = ctx.oidc;
      if (session && isMeant(ctx, session)) {
        await endSession(ctx, provider, session);
        ctx.cookies.set(names.session, null, long);
        await recordSignOut(ctx, session, deps);
        provider.emit('end_session.success', ctx);
        return leaveSignedOut(ctx, ctx.oidc);
      }
      writePage(ctx, {
        status: 200,
        title: (texts) => texts.signOut,
        content: (texts) => html`<p>${texts.signOutQuestion}</p>
${new Html(form)}
<button form="op.logoutForm" name="logout" value="yes" autofocus>${texts.signOut}</button>
<a href="${issuer}/dashboard">${texts.staySignedIn}</a>`,
      });
    },
    postLogoutSuccessSource(ctx) {
      writePage(ctx, {
        status: 200,
        title: (texts) => texts.signedOut,
        content: (texts) => html`<p>${texts.signedOutText}</p>
<a href="${issuer}/dashboard">${texts.toDashboard}</a>`,
      });
    },
  };
}

/** What the library leaves open around the pages: who need not be asked, and the audit trail. */
export function signOut(deps: SignOutDeps): Middleware {
  return async (ctx, next) => {
    await next();
    const { oidc } = ctx as unknown as Partial<KoaContextWithOIDC>;
    if (oidc?.route === 'end_session') skipSignOutQuestion(ctx, oidc);
    if (oidc?.route !== 'end_session_confirm' || ctx.status !== 303 || !oidc.params?.logout) return;
    if (oidc.session) await recordSignOut(ctx, oidc.session, deps);
  };
}

/** Nobody is signed in, so there is nothing to ask: the library would send a form that submits itself by a script. */
function skipSignOutQuestion(ctx: Context, oidc: OidcContext): void {
  if (ctx.status === 200 && !oidc.session?.accountId) leaveSignedOut(ctx, oidc);
}

/**
 * Whether the ID token of a request, which the library has found to be one of ours, expired or not, is of this session:
 * of its user, to a client that has a grant in it, and no older than it. By GET alone: HEAD only asks what GET would
 * answer (RFC 9110 §9.3.2).
 */
function isMeant({ method, oidc }: KoaContextWithOIDC, session: Session): boolean {
  const hint = oidc.entities.IdTokenHint?.payload;
  const clientId = oidc.client?.clientId;
  if (method !== 'GET' || !hint || clientId === undefined || session.accountId === undefined) return false;
  const began = session.authTime() ?? Number.POSITIVE_INFINITY;
  return (
    hint.sub === session.accountId &&
    hint.aud === clientId &&
    session.authorizations?.[clientId]?.grantId !== undefined &&
    (hint.auth_time === undefined ? Number(hint.iat) >= began : hint.auth_time === began)
  );
}

/** Ends a session with what it granted, as the library does once its question is answered; the cookie is the caller's. */
export async function endSession(ctx: Context, provider: Provider, session: Session): Promise<void> {
  for (const { grantId, persistsLogout } of Object.values(session.authorizations ?? {})) {
    // OpenID Connect Core 1.0 §11: `offline_access` is for after the sign-out.
    if (!grantId || persistsLogout) continue;
    await endGrant(ctx, provider, grantId);
  }
  await session.destroy();
}

/** Ends a grant, with all that came from it. */
async function endGrant(ctx: Context, provider: Provider, grantId: string): Promise<void> {
  const { AccessToken, AuthorizationCode, RefreshToken } = provider;
  for (const model of [AccessToken, AuthorizationCode, RefreshToken]) await model.revokeByGrantId(grantId);
  const grant = await provider.Grant.find(grantId);
  await grant?.destroy();
  provider.emit('grant.revoked', ctx, grantId);
}

async function recordSignOut(
  ctx: Context,
  { accountId }: Session,
  { auditEvents, clock }: SignOutDeps,
): Promise<void> {
  if (accountId === undefined) return;
  const actor = { type: 'user', id: accountId } as const;
  const event = { at: clock(), action: 'user.signed_out', actor, targetId: accountId };
  await auditEvents.insert([requestEvent(ctx, event)]);
}

/** To the address that the client has registered and asked for, or to the page that says that it is done. */
function leaveSignedOut(ctx: Context, oidc: OidcContext): void {
  const { postLogoutRedirectUri, state } = (oidc.session?.state ?? {}) as Record<string, string | undefined>;
  const target = new URL(postLogoutRedirectUri ?? oidc.urlFor('end_session_success'));
  if (postLogoutRedirectUri && state !== undefined) target.searchParams.set('state', state);
  ctx.status = 303;
  ctx.redirect(target.href);
}
