import { invalidToken, Refusal } from './errors.ts';

/** Claims of an access token (RFC 9068 §2.2), as they were signed. */
export interface AccessTokenClaims {
  readonly iss: string;
  /** Id of the user, or of the client for one that acts for itself. */
  readonly sub: string;
  readonly aud: string | readonly string[];
  readonly client_id: string;
  /** Seconds since the epoch, as `exp` and `nbf` are. */
  readonly iat: number;
  readonly exp: number;
  readonly nbf?: number;
  readonly jti: string;
  /** Separated by spaces. */
  readonly scope?: string;
  /** Id of the organization; in tokens that a platform token was exchanged for. */
  readonly org_id?: string;
  /** Id of that platform token. */
  readonly token_id?: string;
  readonly status?: { readonly status_list: { readonly idx: number; readonly uri: string } };
  readonly [claim: string]: unknown;
}

export interface ClaimRules {
  readonly issuer: string;
  readonly audience: string;
  /** Seconds since the epoch. */
  readonly now: number;
  /** In seconds. */
  readonly clockTolerance: number;
}

/** @throws {Refusal} for claims that RFC 9068 §4 and RFC 7519 §4.1 refuse */
export function checkClaims(claims: Readonly<Record<string, unknown>>, rules: ClaimRules): AccessTokenClaims {
  const { issuer, audience, now, clockTolerance } = rules;
  const { iss, aud, exp, nbf, iat } = claims;
  if (iss !== issuer) throw invalidToken('iss', 'The access token is of another issuer');
  const audiences = Array.isArray(aud) ? (aud as unknown[]) : [aud];
  if (!audiences.includes(audience) || !audiences.every((one) => typeof one === 'string')) {
    throw invalidToken('aud', 'The access token is for another audience');
  }
  for (const name of ['sub', 'client_id', 'jti']) {
    if (typeof claims[name] !== 'string' || claims[name] === '') {
      throw invalidToken('claims', `The access token has no ${name}`);
    }
  }
  for (const name of ['scope', 'org_id', 'token_id']) {
    if (claims[name] !== undefined && typeof claims[name] !== 'string') {
      throw invalidToken('claims', `The ${name} of the access token is no string`);
    }
  }
  if (!isTime(exp)) throw invalidToken('claims', 'The access token has no exp');
  if (!isTime(iat)) throw invalidToken('claims', 'The access token has no iat');
  if (exp <= now - clockTolerance) throw invalidToken('exp', 'The access token expired');
  if (nbf !== undefined && !(isTime(nbf) && nbf <= now + clockTolerance)) {
    throw invalidToken('nbf', 'The access token is not valid yet');
  }
  if (iat > now + clockTolerance) throw invalidToken('iat', 'The access token was issued in the future');
  return claims as unknown as AccessTokenClaims;
}

const isTime = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value);

/** @throws {Refusal} `insufficient_scope`, where the token lacks one of these */
export function checkScopes({ scope = '' }: AccessTokenClaims, required: readonly string[]): void {
  const granted = scope.split(' ');
  if (required.every((one) => granted.includes(one))) return;
  throw new Refusal({
    code: 'insufficient_scope',
    rule: 'scope',
    description: 'The access token lacks a scope',
    scopes: required,
  });
}
