import { Refusal } from './errors.ts';

/** What a server was sent as `Authorization`: one value, or each of several. */
export type AuthorizationField = string | readonly string[] | null | undefined;

/**
 * The bearer token of a request (RFC 6750 §2.1). Tokens in a form or a query (§2.2, §2.3) are not taken: they end in logs.
 * @throws {Refusal} `missing_token` without the scheme Bearer, `invalid_request` for more than one field, `invalid_token`
 */
export function readBearerToken(authorization: AuthorizationField): string {
  const fields = typeof authorization === 'string' ? [authorization] : (authorization ?? []);
  if (fields.length > 1) {
    throw new Refusal({
      code: 'invalid_request',
      rule: 'one_token',
      description: 'The request has more than one Authorization field',
    });
  }
  const [, scheme = '', rest = ''] = /^([^ ]*)(?: +(.*))?$/.exec(fields[0] ?? '') ?? [];
  if (scheme.toLowerCase() !== 'bearer') {
    throw new Refusal({
      code: 'missing_token',
      rule: 'no_token',
      description: 'The request has no bearer token',
    });
  }
  // A comma is what fields are joined by, and no character of a token.
  if (!/^[\w.~+/-]+=*$/.test(rest)) {
    throw new Refusal({
      code: 'invalid_token',
      rule: 'format',
      description: 'The Authorization field is not the scheme Bearer and one token',
    });
  }
  return rest;
}

/** Every `Authorization` field of a Node.js request: its `headers` keep the first of several, and hide the rest. */
export function authorizationOf(request: {
  readonly rawHeaders?: readonly string[];
  readonly headers: { readonly authorization?: string | undefined };
}): AuthorizationField {
  const raw = request.rawHeaders ?? [];
  const fields = raw.filter((_, i) => i % 2 === 1 && raw[i - 1]?.toLowerCase() === 'authorization');
  return fields.length > 0 ? fields : request.headers.authorization;
}
