/** The errors of RFC 6750 §3.1, one for a request without a token, and one for an issuer that cannot be asked. */
export type VerificationErrorCode =
  | 'missing_token'
  | 'invalid_request'
  | 'invalid_token'
  | 'insufficient_scope'
  | 'temporarily_unavailable';

/** Which rule a token broke. For logs and metrics: clients are told the code and the description alone. */
export type VerificationRule =
  | 'no_token'
  | 'one_token'
  | 'size'
  | 'format'
  | 'base64url'
  | 'json'
  | 'typ'
  | 'alg'
  | 'crit'
  | 'kid'
  | 'key'
  | 'signature'
  | 'iss'
  | 'aud'
  | 'exp'
  | 'nbf'
  | 'iat'
  | 'claims'
  | 'status_claim'
  | 'status_uri'
  | 'status_index'
  | 'revoked'
  | 'scope'
  | 'keys_unavailable'
  | 'status_list_unavailable';

export interface VerificationErrorOptions {
  readonly code: VerificationErrorCode;
  readonly rule: VerificationRule;
  readonly description: string;
  /** Scopes that the request needs, for `insufficient_scope`. */
  readonly scopes?: readonly string[];
  readonly cause?: unknown;
}

const statuses = {
  missing_token: 401,
  invalid_request: 400,
  invalid_token: 401,
  insufficient_scope: 403,
  temporarily_unavailable: 503,
} as const satisfies Record<VerificationErrorCode, number>;

/** Seconds after which a client that was answered 503 may try again. */
const retryAfter = 5;

/**
 * A request that is not let in. Says how to answer it: `status`, `headers` (with the challenge of RFC 6750 §3 and RFC 9728
 * §5.1) and `body`. Nothing of the token is in it.
 */
export class VerificationError extends Error {
  override readonly name = 'VerificationError';
  readonly code: VerificationErrorCode;
  readonly rule: VerificationRule;
  readonly status: 400 | 401 | 403 | 503;
  /** Value of `WWW-Authenticate`; none for 503, where it is not the token that is at fault. */
  readonly challenge: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  /** None for a request without a token, which is told no error code (RFC 6750 §3.1). */
  readonly body: { readonly error: string; readonly error_description: string } | undefined;

  constructor(
    { code, rule, description, scopes = [], cause }: VerificationErrorOptions,
    { realm, resourceMetadata }: { readonly realm: string; readonly resourceMetadata?: string | undefined },
  ) {
    super(description, cause === undefined ? undefined : { cause });
    this.code = code;
    this.rule = rule;
    this.status = statuses[code];
    const error = code === 'missing_token' ? undefined : code;
    this.challenge =
      code === 'temporarily_unavailable'
        ? undefined
        : writeChallenge({
            realm,
            error,
            error_description: error && description,
            scope: code === 'insufficient_scope' ? scopes.join(' ') : undefined,
            resource_metadata: resourceMetadata,
          });
    this.headers = {
      'Cache-Control': 'no-store',
      ...(this.challenge === undefined
        ? { 'Retry-After': String(retryAfter) }
        : { 'WWW-Authenticate': this.challenge }),
    };
    this.body = error && { error, error_description: description };
  }
}

/** A challenge of the scheme `Bearer`, its parameters as quoted strings (RFC 9110 §11.2). */
function writeChallenge(parameters: Record<string, string | undefined>): string {
  const written = Object.entries(parameters).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}="${value.replace(/[\\"]/g, '\\$&')}"`],
  );
  return `Bearer ${written.join(', ')}`;
}

/** Thrown where the token breaks a rule; the verifier makes a {@link VerificationError} of it, which knows the challenge. */
export class Refusal extends Error {
  readonly options: VerificationErrorOptions;

  constructor(options: VerificationErrorOptions) {
    super(options.description);
    this.options = options;
  }
}

export const invalidToken = (rule: VerificationRule, description: string): Refusal =>
  new Refusal({ code: 'invalid_token', rule, description });

export const unavailable = (
  rule: 'keys_unavailable' | 'status_list_unavailable',
  description: string,
  cause: unknown,
): Refusal => new Refusal({ code: 'temporarily_unavailable', rule, description, cause });
