import type { Context, Middleware } from 'koa';
import { readCredentials, refuseSecondAuthorization } from './client-authentication.ts';
import { anonymousClientId } from './clients.ts';
import type { FailureLimits } from './failure-limits.ts';
import { type Form, readForm, refuseRepetition, type SingleForm } from './form.ts';
import { tokenExchangeGrant } from './metadata.ts';
import { invalidClient, invalidRequest } from './oauth-error.ts';

const clientGrants = new Set(['client_credentials', 'authorization_code', 'refresh_token']);

/**
 * Reads the token request, and lets one without a client run as the public client `platform-tokens`: the library
 * refuses such requests before any grant sees them. Credentials that were sent stay, and are checked. What has failed too
 * often ends here, before the library and the database have any work with it.
 */
export function anonymousClient(failureLimits: FailureLimits): Middleware {
  return async (ctx, next) => {
    const form = await readForm(ctx);
    if (typeof form.grant_type === 'string') ctx.state.grantType = form.grant_type;
    // Several targets are refused by the exchange, as invalid_target.
    refuseRepetition(form, form.grant_type === tokenExchangeGrant ? ['resource', 'audience'] : ['resource']);
    refuseSecondAuthorization(ctx.req);
    if (bearerOf(ctx) !== undefined) {
      if (form.grant_type !== tokenExchangeGrant) throw invalidClient();
      tolerateBearer(ctx, 'subject_token', form);
    }
    const credentials = readCredentials(ctx.headers, form);
    // RFC 9110 §11.4 allows several spaces, the library one.
    if (ctx.headers.authorization)
      ctx.headers.authorization = ctx.headers.authorization.replace(/^basic +/i, 'Basic ');
    if (!credentials) {
      if (typeof form.grant_type === 'string' && clientGrants.has(form.grant_type)) throw invalidClient();
      form.client_id = anonymousClientId;
    } else failureLimits.admitClient(ctx, credentials);
    admit(ctx, form);
    (ctx.req as { body?: Form }).body = form;
    await next();
  };

  /** Of each grant what the database would be asked for. */
  function admit(ctx: Context, { grant_type, subject_token, code, refresh_token }: Form): void {
    if (grant_type === tokenExchangeGrant) {
      if (typeof subject_token === 'string') failureLimits.admitSubject(ctx, subject_token);
      return;
    }
    const presented =
      grant_type === 'authorization_code' ? code : grant_type === 'refresh_token' ? refresh_token : undefined;
    if (typeof presented === 'string') failureLimits.admitGrant(ctx, presented);
  }
}

const bearerOf = (ctx: Context) => /^Bearer +(\S+)$/i.exec(ctx.headers.authorization ?? '')?.[1];

/** Some callers send the platform token as a bearer credential too: the same one is ignored, another is refused. */
export function tolerateBearer(ctx: Context, parameter: string, form: Readonly<Form> | SingleForm): void {
  const bearer = bearerOf(ctx);
  if (bearer === undefined) return;
  if (bearer !== form[parameter]) throw invalidRequest(`the Authorization header and ${parameter} differ`);
  delete ctx.headers.authorization;
}
