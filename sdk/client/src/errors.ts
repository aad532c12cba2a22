/** What every error of this package is, beside the `TypeError` for wrong options and the reasons of aborted signals. */
export class PlatformTokenError extends Error {
  override name = 'PlatformTokenError';
}

/** The server refused the exchange for good: the same request will be refused again. */
export class ExchangeRefusedError extends PlatformTokenError {
  override name = 'ExchangeRefusedError';
  /** The OAuth error code (RFC 6749 §5.2, RFC 8693 §2.2.2), such as `invalid_scope`. */
  readonly code: string;
  constructor(code: string, message = `the token endpoint refused the exchange: ${code}`) {
    super(message);
    this.code = code;
  }
}

/** The platform token is unknown, expired or revoked, or what it belongs to is inactive. It takes another one. */
export class DeadTokenError extends ExchangeRefusedError {
  override name = 'DeadTokenError';
  constructor(code: string) {
    super(code, `the token endpoint does not accept the platform token: ${code}`);
  }
}

/** A passing fault that outlasted the wait. `cause` says what the last attempt met. */
export class TemporaryError extends PlatformTokenError {
  override name = 'TemporaryError';
  /** When the next attempt is due, in milliseconds from now. Before it, no call makes a request. */
  readonly retryAfterMs: number;
  constructor(cause: Error, retryAfterMs: number) {
    super(`no access token for now: ${cause.message}`, { cause });
    this.retryAfterMs = retryAfterMs;
  }
}

// RFC 6749 §5.2: an error code of this server, in a 400 or 401. Anything else is a proxy, or passes.
const refusalCodes = new Set([
  'invalid_request',
  'invalid_client',
  'invalid_grant',
  'invalid_scope',
  'invalid_target',
  'unauthorized_client',
  'unsupported_grant_type',
]);
// RFC 8693 §2.2.2 wants invalid_request of a subject token that does not hold; many servers say invalid_grant.
const deadTokenCodes = new Set(['invalid_request', 'invalid_grant']);

export function isRefusalCode(code: unknown): code is string {
  return typeof code === 'string' && refusalCodes.has(code);
}

/** A new error for each caller, so that each has a stack of its own. */
export function refusalError(code: string): ExchangeRefusedError {
  return deadTokenCodes.has(code) ? new DeadTokenError(code) : new ExchangeRefusedError(code);
}

const platformTokens = /[A-Za-z][0-9A-Za-z]*_[0-9A-Za-z]{40,}/g;
const jwts = /eyJ[\w-]+\.[\w-]*\.?[\w-]*/g;

/**
 * What a foreign error said, as an error of its own. A foreign error may carry the request that failed, and with it
 * the secret, in any property: none of them is kept but the code.
 */
export function safeCause(error: unknown, secret?: string): Error {
  const { name, message, code } = partsOf(error);
  const inner = error instanceof Error && error.cause !== undefined ? partsOf(error.cause) : undefined;
  const said = [message || name, inner && (inner.message || inner.code)].filter(Boolean).join(': ');
  const cause = new Error(scrub(said, secret));
  const kept = code ?? inner?.code;
  return kept === undefined ? cause : Object.assign(cause, { code: scrub(kept, secret) });
}

function partsOf(error: unknown): { name: string; message: string; code: string | undefined } {
  if (!(error instanceof Error)) return { name: 'Error', message: 'something was thrown', code: undefined };
  const { code } = error as { code?: unknown };
  return { name: error.name, message: error.message, code: typeof code === 'string' ? code : undefined };
}

function scrub(text: string, secret?: string): string {
  const forms = secret
    ? [secret, encodeURIComponent(secret), new URLSearchParams([['', secret]]).toString().slice(1)]
    : [];
  const known = forms.reduce((rest, form) => rest.replaceAll(form, '…'), text);
  return known.replace(platformTokens, '…').replace(jwts, '…').slice(0, 500);
}
