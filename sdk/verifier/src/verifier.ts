import { type AccessTokenClaims, checkClaims, checkScopes } from './access-token.ts';
import { type AuthorizationField, readBearerToken } from './bearer.ts';
import { parseCompactJws } from './compact-jws.ts';
import { invalidToken, Refusal, VerificationError } from './errors.ts';
import { createKeySource } from './keys.ts';
import { readOptions, readVerifyOptions, type VerifierOptions, type VerifyOptions } from './options.ts';
import { verifySignature } from './signature.ts';
import { createStatusLists, readStatusReference } from './status-list.ts';

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
  const settings = readOptions(options);
  const { issuer, audience, requiredScopes, resourceMetadata, algorithms, clockTolerance } = settings;
  const { statusLists, timeout, tokenSizeLimit, fetch, clock } = settings;
  const keys = createKeySource({
    url: settings.jwksUri,
    maxStale: settings.maxStale,
    cooldown: settings.unknownKeyCooldown,
    timeout,
    fetch,
    clock,
  });
  const lists = createStatusLists({
    issuer,
    keys,
    algorithms,
    limit: settings.statusListLimit,
    sizeLimit: settings.statusListSizeLimit,
    clockTolerance,
    onIssuerUnavailable: settings.onIssuerUnavailable,
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
    ...new Set([...requiredScopes, ...readVerifyOptions(more)]),
  ];

  return {
    verify: (jwt, more) => explain(() => check(jwt, all(more))),
    authenticate: (authorization, more) =>
      explain(async () => check(readBearerToken(authorization), all(more))),
  };
}
