import type { IncomingHttpHeaders } from 'node:http';
import type { Middleware } from 'koa';
import { policy } from '../../config/policy.ts';
import { repeatsAuthorization } from '../http/authorization.ts';
import { BodyError, readBody } from '../http/body.ts';
import { anonymousClientId } from './clients.ts';
import { tokenExchangeGrant } from './metadata.ts';
import { OAuthError } from './oauth-error.ts';

type Form = Record<string, string | string[]>;

const formType = 'application/x-www-form-urlencoded';
const clientGrants = new Set(['client_credentials', 'authorization_code', 'refresh_token']);
// The library would read no more than 1,000, and leave the rest unchecked. No request needs a tenth of this.
const maximumParameters = 100;

/**
 * Reads the token request, and lets one without a client run as the public client `platform-tokens`: the library
 * refuses such requests before any grant sees them. Credentials that were sent stay, and are checked.
 */
export function anonymousClient(): Middleware {
  return async (ctx, next) => {
    const form = await readForm(ctx);
    refuseRepetition(form);
    if (repeatsAuthorization(ctx.req)) throw invalidRequest('only one Authorization header is allowed');
    tolerateBearer(ctx, form);
    checkCredentials(ctx.headers, form);
    const anonymous = ctx.headers.authorization === undefined && form.client_id === undefined;
    if (anonymous) {
      if (typeof form.grant_type === 'string' && clientGrants.has(form.grant_type)) throw invalidClient();
      form.client_id = anonymousClientId;
    }
    (ctx.req as { body?: Form }).body = form;
    await next();
  };
}

async function readForm(ctx: Parameters<Middleware>[0]): Promise<Form> {
  if (!ctx.is(formType)) {
    ctx.req.resume();
    throw invalidRequest(`the body must be ${formType}`);
  }
  try {
    return parseForm(await readBody(ctx.req, policy.tokenRequestBodyLimit));
  } catch (error) {
    if (error instanceof BodyError) throw new OAuthError(error.status, 'invalid_request', error.message);
    if (error instanceof URIError) throw invalidRequest(`the body is not valid ${formType}`);
    throw error;
  }
}

/**
 * RFC 6749 §3.2 and appendix B: a parameter without a value counts as omitted.
 * @throws OAuthError for too many, URIError for broken percent-encoding
 */
function parseForm(body: string): Form {
  const form: Form = Object.create(null);
  const pairs = body.split('&', maximumParameters + 1);
  if (pairs.length > maximumParameters) throw invalidRequest('too many parameters');
  for (const pair of pairs) {
    if (pair === '') continue;
    const at = pair.indexOf('=');
    const name = decode(at < 0 ? pair : pair.slice(0, at));
    const value = at < 0 ? '' : decode(pair.slice(at + 1));
    if (value === '') continue;
    if (name.includes('\0') || value.includes('\0')) throw new URIError('NUL in a parameter');
    const before = form[name];
    form[name] = before === undefined ? value : [before, value].flat();
  }
  return form;
}

const decode = (text: string) => decodeURIComponent(text.replaceAll('+', ' '));

/** Some callers send the platform token as a bearer credential too: the same one is ignored, another is refused. */
function tolerateBearer(ctx: Parameters<Middleware>[0], form: Form): void {
  const bearer = /^Bearer +(\S+)$/i.exec(ctx.headers.authorization ?? '')?.[1];
  if (bearer === undefined) return;
  if (form.grant_type !== tokenExchangeGrant) throw invalidClient();
  if (bearer !== form.subject_token) {
    throw invalidRequest('the Authorization header and subject_token differ');
  }
  delete ctx.headers.authorization;
}

/** RFC 6749 §3.2: parameters come once. Several targets are refused by the exchange, as invalid_target. */
function refuseRepetition(form: Form): void {
  const repeatable = form.grant_type === tokenExchangeGrant ? ['resource', 'audience'] : ['resource'];
  for (const [name, value] of Object.entries(form)) {
    if (Array.isArray(value) && !repeatable.includes(name))
      throw invalidRequest('parameters must not be repeated');
  }
}

/** RFC 6749 §5.2: credentials that cannot be right are invalid_client, never an anonymous request. */
function checkCredentials(headers: IncomingHttpHeaders, form: Form): void {
  if (form.client_assertion !== undefined || form.client_assertion_type !== undefined) throw invalidClient();
  if (headers.authorization === undefined) {
    if (form.client_secret !== undefined && form.client_id === undefined) throw invalidClient();
    return;
  }
  const encoded = /^Basic +([A-Za-z0-9+/]+={0,2})$/i.exec(headers.authorization)?.[1];
  const [, id, secret] = /^([^:]+):(.+)$/s.exec(Buffer.from(encoded ?? '', 'base64').toString()) ?? [];
  if (!isFormEncoded(id) || !isFormEncoded(secret)) throw invalidClient();
  // RFC 9110 §11.4 allows several spaces, the library one.
  headers.authorization = `Basic ${encoded}`;
}

/** RFC 6749 §2.3.1: both halves of Basic credentials are form-encoded. */
function isFormEncoded(text: string | undefined): boolean {
  if (text === undefined) return false;
  try {
    return /^[\x20-\x7e]+$/.test(decode(text));
  } catch {
    return false;
  }
}

function invalidRequest(description: string): OAuthError {
  return new OAuthError(400, 'invalid_request', description);
}

function invalidClient(): OAuthError {
  return new OAuthError(401, 'invalid_client', 'client authentication failed');
}
