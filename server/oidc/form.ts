import type { Context } from 'koa';
import { policy } from '../../config/policy.ts';
import { BodyError, readBody } from '../http/body.ts';
import { invalidRequest, OAuthError } from './oauth-error.ts';

export type Form = Record<string, string | string[]>;
/** A form in which every parameter comes once. */
export type SingleForm = Readonly<Partial<Record<string, string>>>;

const formType = 'application/x-www-form-urlencoded';
// The library would read no more than 1,000, and leave the rest unchecked. No request needs a tenth of this.
const maximumParameters = 100;

/** The parameters of a request to an OAuth endpoint. */
export async function readForm(ctx: Context): Promise<Form> {
  // As most send it, there is nothing to parse.
  if (ctx.headers['content-type'] !== formType && !ctx.is(formType)) {
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
    const name = decodeFormText(at < 0 ? pair : pair.slice(0, at));
    const value = at < 0 ? '' : decodeFormText(pair.slice(at + 1));
    if (value === '') continue;
    if (name.includes('\0') || value.includes('\0')) throw new URIError('NUL in a parameter');
    const before = form[name];
    form[name] = before === undefined ? value : [before, value].flat();
  }
  return form;
}

/** @throws URIError for broken percent-encoding */
export function decodeFormText(text: string): string {
  const spaced = text.replaceAll('+', ' ');
  // Decoding costs as much where there is nothing to decode.
  return spaced.includes('%') ? decodeURIComponent(spaced) : spaced;
}

/** RFC 6749 §3.2: parameters come once. */
export function refuseRepetition(form: Form, repeatable: readonly string[] = []): void {
  for (const [name, value] of Object.entries(form)) {
    if (Array.isArray(value) && !repeatable.includes(name))
      throw invalidRequest('parameters must not be repeated');
  }
}

/** The parameters of a request in which none may be repeated. */
export async function readSingleForm(ctx: Context): Promise<SingleForm> {
  const form = await readForm(ctx);
  refuseRepetition(form);
  return form as SingleForm;
}
