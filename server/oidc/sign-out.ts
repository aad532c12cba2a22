import type { Middleware } from 'koa';
import type { Configuration, KoaContextWithOIDC } from 'oidc-provider';
import { Html, html, writePage } from './page.ts';

type Pages = NonNullable<NonNullable<Configuration['features']>['rpInitiatedLogout']>;

/** OpenID Connect RP-Initiated Logout 1.0 §2: the pages, without the library's scripts. */
export function signOutPages(issuer: string): Pages {
  return {
    logoutSource(ctx, form) {
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

/** Nobody is signed in, so there is nothing to ask: the library would send a form that submits itself by a script. */
export const skipSignOutQuestion: Middleware = async (ctx, next) => {
  await next();
  const { oidc } = ctx as unknown as Partial<KoaContextWithOIDC>;
  if (oidc?.route !== 'end_session' || ctx.status !== 200 || oidc.session?.accountId) return;
  const { postLogoutRedirectUri, state } = (oidc.session?.state ?? {}) as Record<string, string | undefined>;
  const target = new URL(postLogoutRedirectUri ?? oidc.urlFor('end_session_success'));
  if (postLogoutRedirectUri && state !== undefined) target.searchParams.set('state', state);
  ctx.status = 303;
  ctx.redirect(target.href);
};
