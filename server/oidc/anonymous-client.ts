import type { Middleware } from 'koa';
import { policy } from '../../config/policy.ts';
import { BodyError, readBody } from '../http/body.ts';
import { anonymousClientId } from './clients.ts';
import { tokenExchangeGrant } from './metadata.ts';
import { OAuthError } from './oauth-error.ts';

type Form = Record<string, string | string[]>;

const formType = 'application/x-www-form-urlencoded';
const clientGrants = new Set(['client_credentials', 'authorization_code', 'refresh_token']);
const credentialParameters = ['client_id', 'client_secret', 'client_assertion'] as const;

/**
 * Reads the token request, and lets one without a client run as the public client `platform-tokens`: the library
 * refuses such requests before any grant sees them. Credentials that were sent stay, and are checked.
 */
export function anonymousClient(): Middleware {
  return async (ctx, next) => {
    const form = await readForm(ctx);
    tolerateBearer(ctx, form);
    checkCredentials(ctx.headers.authorization, form);
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
    throw new OAuthError(400, 'invalid_request', `the body must be ${formType}`);
  }
  try {
    return parseForm(await readBody(ctx.req, policy.tokenRequestBodyLimit));
  } catch (error) {
    if (error instanceof BodyError) throw new OAuthError(error.status, 'invalid_request', error.message);
    if (error instanceof URIError)
      throw new OAuthError(400, 'invalid_request', `the body is not valid ${formType}`);
    throw error;
  }
}

/**
 * RFC 6749 §3.2 and appendix B: a parameter without a value counts as omitted.
 * @throws URIError for broken percent-encoding
 */
function parseForm(body: string): Form {
  const form: Form = Object.create(null);
  for (const pair of body.split('&')) {
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
    throw new OAuthError(400, 'invalid_request', 'the Authorization header and subject_token differ');
  }
  delete ctx.headers.authorization;
}

/** RFC 6749 §5.2: credentials that cannot be right are invalid_client, never an anonymous request. */
function checkCredentials(authorization: string | undefined, form: Form): void {
  if (credentialParameters.some((name) => Array.isArray(form[name]))) {
    throw new OAuthError(400, 'invalid_request', 'client credentials must not be provided twice');
  }
  if (form.client_assertion !== undefined) throw invalidClient();
  if (authorization === undefined) {
    if (form.client_secret !== undefined && form.client_id === undefined) throw invalidClient();
    return;
  }
  const encoded = /^Basic +([A-Za-z0-9+/]+={0,2})$/i.exec(authorization)?.[1];
  const [, id, secret] = /^([^:]+):(.+)$/s.exec(Buffer.from(encoded ?? '', 'base64').toString()) ?? [];
  if (!isFormEncoded(id) || !isFormEncoded(secret)) throw invalidClient();
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

function invalidClient(): OAuthError {
  return new OAuthError(401, 'invalid_client', 'client authentication failed');
}
