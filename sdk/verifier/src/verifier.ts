import { type AccessTokenClaims, checkClaims, checkScopes } from './access-token.ts';
import { type AuthorizationField, readBearerToken } from './bearer.ts';
import { parseCompactJws } from './compact-jws.ts';
import { invalidToken, Refusal, VerificationError } from './errors.ts';
import { type Algorithm, createKeySource, supportedAlgorithms } from './keys.ts';
import { verifySignature } from './signature.ts';
import { createStatusLists, readStatusReference } from './status-list.ts';

export interface VerifierOptions {
  /** The issuer, as it is in `iss`. */
  readonly issuer: string;
  /** The audience of this API, which `aud` must have. */
  readonly audience: string;
  /** Scopes that every token must have. */
  readonly requiredScopes?: readonly string[];
  /** URL of this API's metadata (RFC 9728), which challenges then name. */
  readonly resourceMetadata?: string;
  /** All that are supported, unless said otherwise. */
  readonly algorithms?: readonly Algorithm[];
  /** How far the clocks may be apart, in seconds; 60. */
  readonly clockTolerance?: number;
  /** `ISSUER/oauth/jwks`, unless said otherwise. */
  readonly jwksUri?: string;
  /**
   * `check` looks up the status of tokens that name a list, `require` refuses those that name none, `ignore` looks at
   * none: then a revoked token is good until it expires.
   */
  readonly statusLists?: 'check' | 'require' | 'ignore';
  /**
   * For a token whose status cannot be found out because the issuer is away: `reject` answers 503, `accept` lets it in
   * unless it was revoked when last seen. Nothing lets in a token whose signature cannot be verified.
   */
  readonly onIssuerUnavailable?: 'reject' | 'accept';
  /** How long keys may be used while the issuer is away, in seconds; 24 hours. Lists: until their `exp`. */
  readonly maxStale?: number;
  /** Between two requests for unknown `kid`s, in seconds; 5. It is how long strangers can keep a new key unknown. */
  readonly unknownKeyCooldown?: number;
  /** How long one request to the issuer may take, in milliseconds; 5,000. */
  readonly timeout?: number;
  /** Status lists that are kept; 64. */
  readonly statusListLimit?: number;
  /** Longest status list, in bytes after decompression; 1 MiB. */
  readonly statusListSizeLimit?: number;
  /** Longest access token, in characters; 8,192. */
  readonly tokenSizeLimit?: number;
  /** Allows an issuer on plain HTTP that is not this machine. */
  readonly allowHttp?: boolean;
  readonly fetch?: typeof fetch;
  /** Milliseconds since the epoch. */
  readonly clock?: () => number;
}

export interface VerifyOptions {
  /** Scopes that this request needs, besides the verifier's own. */
  readonly requiredScopes?: readonly string[];
}

export interface Verifier {
  /** @throws {VerificationError} */
  verify(jwt: string, options?: VerifyOptions): Promise<AccessTokenClaims>;
  /** The same for an `Authorization` field: its value, or each of several. @throws {VerificationError} */
  authenticate(authorization: AuthorizationField, options?: VerifyOptions): Promise<AccessTokenClaims>;
}

/**
 * Verifies access tokens offline. Asks the issuer for nothing until the first token comes, then keeps what it was told.
 * @throws {TypeError} for options that make no sense
 */
export function createVerifier(options: VerifierOptions): Verifier {
  const {
    issuer,
    audience,
    requiredScopes = [],
    resourceMetadata,
    algorithms = supportedAlgorithms,
    clockTolerance = 60,
    jwksUri = `${issuer}/oauth/jwks`,
    statusLists = 'check',
    onIssuerUnavailable = 'reject',
    maxStale = 24 * 60 * 60,
    unknownKeyCooldown = 5,
    timeout = 5_000,
    statusListLimit = 64,
    statusListSizeLimit = 1024 * 1024,
    tokenSizeLimit = 8_192,
    allowHttp = false,
    clock = Date.now,
  } = options;
  checkUrl('issuer', issuer, allowHttp);
  checkUrl('jwksUri', jwksUri, allowHttp);
  if (!audience) throw new TypeError('audience is missing');
  const foreign = algorithms.filter((alg) => !supportedAlgorithms.includes(alg));
  if (foreign.length > 0 || algorithms.length === 0) {
    throw new TypeError(`algorithms must be of ${supportedAlgorithms.join(', ')}`);
  }
  // Looked up at each call: what instruments fetch may do so later.
  const fetch: typeof globalThis.fetch = (...args) => (options.fetch ?? globalThis.fetch)(...args);
  const keys = createKeySource({
    url: jwksUri,
    maxStale,
    cooldown: unknownKeyCooldown,
    timeout,
    fetch,
    clock,
  });
  const lists = createStatusLists({
    issuer,
    keys,
    algorithms,
    limit: statusListLimit,
    sizeLimit: statusListSizeLimit,
    clockTolerance,
    onIssuerUnavailable,
    timeout,
    fetch,
    clock,
  });

  async function check(jwt: string, required: readonly string[]): Promise<AccessTokenClaims> {
    if (jwt.length > tokenSizeLimit) throw invalidToken('size', 'The access token is too long');
    const jws = parseCompactJws(jwt);
    await verifySignature(jwt, jws, { keys, algorithms, typ: 'at+jwt' });
    const claims = checkClaims(jws.payload, { issuer, audience, now: clock() / 1000, clockTolerance });
    if (statusLists !== 'ignore') {
      const reference = readStatusReference(claims.status, issuer);
      if (reference) await lists.check(reference);
      else if (statusLists === 'require')
        throw invalidToken('status_claim', 'The access token has no status');
    }
    checkScopes(claims, required);
    return claims;
  }

  async function explain<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      throw new VerificationError(error.options, { realm: audience, resourceMetadata });
    }
  }

  const all = (more: VerifyOptions = {}): string[] => [
    ...new Set([...requiredScopes, ...(more.requiredScopes ?? [])]),
  ];

  return {
    verify: (jwt, more) => explain(() => check(jwt, all(more))),
    authenticate: (authorization, more) =>
      explain(async () => check(readBearerToken(authorization), all(more))),
  };
}

/** Keys that come over plain HTTP are anybody's. */
function checkUrl(name: string, value: string, allowHttp: boolean): void {
  if (!URL.canParse(value)) throw new TypeError(`${name} is no URL`);
  const url = new URL(value);
  const local = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
  if (url.protocol === 'https:' || (url.protocol === 'http:' && (local || allowHttp))) return;
  throw new TypeError(`${name} must be https:`);
}
