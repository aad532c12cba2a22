import { randomUUID } from 'node:crypto';
import type Router from '@koa/router';
import type { Context } from 'koa';
import type Provider from 'oidc-provider';
import { errors } from 'oidc-provider';
import { type Limits, policy } from '../../config/policy.ts';
import { networkOf } from '../domain/network.ts';
import { verifyPassword } from '../domain/password.ts';
import { authTimeOf } from '../domain/sign-out.ts';
import { BodyError, readBody } from '../http/body.ts';
import { clientAddress } from '../http/client-address.ts';
import { type Refusal, refusalFields } from '../http/rate-limit.ts';
import { requestEvent } from '../http/request-event.ts';
import { createRouter } from '../http/router.ts';
import type { AuditEvents } from '../storage/audit-events.ts';
import type { CountedEvents } from '../storage/counted-events.ts';
import { isDatabaseUnavailable } from '../storage/database.ts';
import type { User, Users } from '../storage/users.ts';
import { cookiesFor } from './cookies.ts';
import { html, writeNotice, writePage } from './page.ts';
import type { SignInLimits } from './sign-in-limits.ts';
import { endSession } from './sign-out.ts';
import type { Texts } from './texts.ts';

export interface SignInDeps {
  readonly issuer: string;
  readonly provider: () => Provider;
  readonly users: Users;
  readonly auditEvents: AuditEvents;
  readonly limits: Limits;
  readonly signInLimits: SignInLimits;
  readonly countedEvents: CountedEvents;
  /** Told what became of each form. */
  readonly onSignIn: (outcome: 'signed_in' | 'wrong_credentials' | 'limited') => void;
  readonly clock: () => Date;
}

type Interaction = Awaited<ReturnType<Provider['interactionDetails']>>;

const path = '/oauth/sign-in/:uid';
const formType = 'application/x-www-form-urlencoded';

/** The sign-in page: a form by e-mail and password, between the authorization request and its answer. */
export function signInRoutes(deps: SignInDeps): Router {
  const { issuer, users, auditEvents, limits, signInLimits, clock } = deps;
  const cookies = cookiesFor(issuer);
  const basePath = new URL(issuer).pathname.replace(/\/$/, '');
  const router = createRouter();

  /** The interaction of this URL in this browser; undefined where it has expired, is finished or another browser's. */
  async function findInteraction(ctx: Context): Promise<Interaction | undefined> {
    try {
      const interaction = await deps.provider().interactionDetails(ctx.req, ctx.res);
      const matches = interaction.uid === ctx.params.uid && interaction.prompt.name === 'login';
      return matches ? interaction : undefined;
    } catch (error) {
      if (error instanceof errors.SessionNotFound) return undefined;
      throw error;
    }
  }

  function writeForm(ctx: Context, interaction: Interaction, email: string, wrong = false): void {
    // RFC 9110 §15.5.2 keeps 401 for answers with a challenge: a form that was refused is 422.
    const status = wrong ? 422 : 200;
    const title = (texts: Texts) => texts.signIn;
    const alert = (texts: Texts) =>
      wrong ? html`<p class="alert" id="alert" role="alert">${texts.wrongCredentials}</p>` : html``;
    const [first, second] = email === '' ? [html` autofocus`, html``] : [html``, html` autofocus`];
    const described = wrong ? html` aria-invalid="true" aria-describedby="alert"` : html``;
    writePage(ctx, {
      status,
      title,
      formTarget: foreignTarget(issuer, interaction),
      content: (texts) => html`${alert(texts)}
<form method="post" action="${basePath}/oauth/sign-in/${interaction.uid}">
<label for="email">${texts.email}</label>
<input id="email" name="email" type="email" value="${email}" autocomplete="username" autocapitalize="none"
 spellcheck="false" required${described}${first}>
<label for="password">${texts.password}</label>
<input id="password" name="password" type="password" autocomplete="current-password" required${described}${second}>
<button type="submit">${texts.signIn}</button>
</form>`,
    });
  }

  /** Anybody can have as many of these as they like: they are counted. */
  function recordLimited(ctx: Context, target: User | undefined, address: string | null): void {
    deps.onSignIn('limited');
    const at = clock();
    deps.countedEvents.record(`sign-in ${target?.id} ${networkOf(address)}`, at, () =>
      requestEvent(ctx, {
        at,
        action: 'user.sign_in_refused',
        actor: { type: 'system', id: 'sign-in' },
        targetId: target?.id ?? null,
        reason: 'too many attempts',
      }),
    );
  }

  function writeRefusal(ctx: Context, refusal: Refusal): void {
    ctx.set(refusalFields(refusal, limits[refusal.limit]));
    writeNotice(ctx, {
      status: 429,
      title: 'tooManyAttempts',
      text: (texts) => texts.tryAgainIn(Math.ceil(refusal.wait / 60)),
      way: here(ctx),
    });
  }

  const here = (ctx: Context) => ({ text: 'backToSignIn', href: ctx.originalUrl }) as const;
  const startAgain = { text: 'startAgain', href: `${issuer}/dashboard` } as const;
  const writeGone = (ctx: Context) =>
    writeNotice(ctx, { status: 400, title: 'gone', text: (texts) => texts.goneText, way: startAgain });
  const writeNotPossible = (ctx: Context, status: number, text: (texts: Texts) => string) =>
    writeNotice(ctx, { status, title: 'notPossible', text, way: startAgain });

  router.use(async (ctx, next) => {
    try {
      await next();
    } catch (error) {
      // The same form sent twice: the interaction may end while the password is being compared.
      if (error instanceof errors.SessionNotFound) return writeGone(ctx);
      if (!isDatabaseUnavailable(error)) throw error;
      ctx.set('Retry-After', String(policy.retryAfter));
      const text = (texts: Texts) => texts.unavailableText;
      writeNotice(ctx, { status: 503, title: 'unavailable', text, way: here(ctx) });
    }
  });

  router.get(path, async (ctx) => {
    const interaction = await findInteraction(ctx);
    if (!interaction) return writeGone(ctx);
    const hint = interaction.params.login_hint;
    writeForm(ctx, interaction, typeof hint === 'string' && hint.length <= 254 ? hint : '');
  });

  router.post(path, async (ctx) => {
    if (isForeign(ctx, issuer)) {
      ctx.req.resume();
      return writeNotPossible(ctx, 403, (texts) => texts.foreignForm);
    }
    const form = await readForm(ctx);
    if (typeof form === 'number') return writeNotPossible(ctx, form, (texts) => texts.unreadableForm);
    const known = cookies.readKnownBrowser(ctx);
    const lately =
      known === undefined
        ? signInLimits.refusedLately({ account: form.email, address: clientAddress(ctx) })
        : undefined;
    if (lately) {
      recordLimited(ctx, undefined, clientAddress(ctx));
      return writeRefusal(ctx, lately);
    }
    const interaction = await findInteraction(ctx);
    if (!interaction) return writeGone(ctx);

    const found = await users.findCredentials(form.email);
    const attempt = {
      account: found?.user.email ?? form.email,
      address: clientAddress(ctx),
      // Signed in here before, as this very user: nobody else can use up the attempts of this browser.
      knownBrowser: found !== undefined && known?.userId === found.user.id ? known.id : undefined,
    };
    // Another user's cookie is none: what was refused lately costs the counters nothing.
    const again = attempt.knownBrowser === undefined ? signInLimits.refusedLately(attempt) : undefined;
    const refusal = again ?? (await signInLimits.count(attempt));
    if (refusal) {
      recordLimited(ctx, found?.user, attempt.address);
      return writeRefusal(ctx, refusal);
    }

    // One path for everybody, so that neither the time nor the words tell whether there is such a user.
    const right = await verifyPassword(form.password, found?.passwordHash);
    // Read again: what was changed meanwhile counts, and what changes later ends this.
    const confirmed =
      right && found ? await users.confirmCredentials(found.user.id, found.passwordHash) : undefined;
    const user = confirmed && found?.user;
    await auditEvents.insert([signInEvent(ctx, clock(), user, found?.user, right)]);
    deps.onSignIn(user ? 'signed_in' : 'wrong_credentials');
    if (!confirmed || !user) return writeForm(ctx, interaction, form.email, true);

    await signInLimits.takeBack(attempt);
    await endSessionOfAnother(ctx, deps.provider(), interaction, user.id);
    cookies.writeKnownBrowser(ctx, { userId: user.id, id: attempt.knownBrowser ?? randomUUID() });
    ctx.set('Cache-Control', 'no-store');
    const login = { accountId: user.id, amr: ['pwd'], ts: authTimeOf(confirmed.at, confirmed.signedOutAt) };
    const returnTo = await deps.provider().interactionResult(ctx.req, ctx.res, { login });
    ctx.status = 303;
    ctx.redirect(returnTo);
  });

  return router;
}

/** @returns the fields, or the status of a body that is no such form */
async function readForm(ctx: Context): Promise<{ email: string; password: string } | 400 | 413 | 415> {
  if (!ctx.is(formType)) {
    ctx.req.resume();
    return 415;
  }
  try {
    const fields = new URLSearchParams(await readBody(ctx.req, policy.signInBodyLimit));
    const email = fields.getAll('email');
    const password = fields.getAll('password');
    if (email.length > 1 || password.length > 1) return 400;
    // PostgreSQL has no NUL in text; no e-mail address has one.
    return { email: (email[0] ?? '').replaceAll('\0', '').trim(), password: password[0] ?? '' };
  } catch (error) {
    if (error instanceof BodyError) return error.status;
    throw error;
  }
}

/**
 * Whether a browser says that the form was not ours. The cookie of the interaction is SameSite already: this holds where
 * a browser does not keep to it. Our pages send no referrer, so their forms come with `Origin: null`.
 */
function isForeign(ctx: Context, issuer: string): boolean {
  const site = ctx.get('Sec-Fetch-Site');
  if (site) return site !== 'same-origin' && site !== 'none';
  const origin = ctx.get('Origin');
  return origin !== '' && origin !== 'null' && origin !== new URL(issuer).origin;
}

/** Where the answer to the form leads in the end, if that is another origin: the client's redirect_uri. */
function foreignTarget(issuer: string, { params }: Interaction): string | undefined {
  const { protocol, origin } = new URL(String(params.redirect_uri));
  if (!/^https?:$/.test(protocol)) return protocol;
  return origin === new URL(issuer).origin ? undefined : origin;
}

/**
 * Another user's session in this browser ends, with what it granted, when somebody else signs in. The library would ask
 * for it by a form that submits itself by a script.
 */
async function endSessionOfAnother(
  ctx: Context,
  provider: Provider,
  interaction: Interaction,
  userId: string,
): Promise<void> {
  const session = await provider.Session.get(ctx);
  if (session.accountId === undefined || session.accountId === userId) return;
  await endSession(ctx, provider, session);
  delete interaction.session;
  await interaction.persist();
}

function signInEvent(
  ctx: Context,
  at: Date,
  user: User | undefined,
  target: User | undefined,
  right: boolean,
) {
  return requestEvent(ctx, {
    at,
    action: user ? 'user.signed_in' : 'user.sign_in_failed',
    // Nobody has proved to be anybody where it failed; what was typed may be a password, and is not kept.
    actor: user ? { type: 'user', id: user.id } : { type: 'system', id: 'sign-in' },
    targetId: target?.id ?? null,
    reason: user ? null : reasonOf(target, right),
  });
}

/** For administrators: the page says the same in every case. */
function reasonOf(target: User | undefined, right: boolean): string {
  if (!target) return 'no such user';
  if (!right) return 'wrong password';
  if (target.kind !== 'person') return 'a service account';
  return target.status === 'active' ? 'changed meanwhile' : 'not active';
}
