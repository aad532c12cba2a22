import * as oauth from 'oauth4webapi';
import { clientId, issuer, redirectUri } from '../settings.ts';

/** The OAuth 2.0 authorization code flow with PKCE (RFC 6749 §4.1, RFC 7636), as a public client of a browser. */

export interface Tokens {
  readonly accessToken: string;
  /** In milliseconds of `performance.now()`: the user's clock may be wrong, or be set. */
  readonly expiresAt: number;
  readonly idToken: string;
  /** `sub` of the ID token: whose tokens these are. */
  readonly userId: string;
}

/** What a request leaves behind for its answer. */
export interface PendingAuthorization {
  readonly state: string;
  readonly codeVerifier: string;
}

/** The authorization server answered that nobody is signed in in this browser. */
export class LoginRequired extends Error {}

/** No answer, or one that is no answer of the flow. */
export class AuthorizationFailed extends Error {}

// The metadata of RFC 8414, which this page of the same server need not fetch.
const server: oauth.AuthorizationServer = {
  issuer,
  authorization_endpoint: `${issuer}/oauth/authorize`,
  token_endpoint: `${issuer}/oauth/token`,
  authorization_response_iss_parameter_supported: true,
  id_token_signing_alg_values_supported: ['ES256', 'RS256', 'PS256', 'EdDSA', 'Ed25519'],
};
const client: oauth.Client = {
  client_id: clientId,
  // The code is of one use and a minute: what a user's clock makes of the ID token's times decides nothing.
  [oauth.clockTolerance]: 24 * 60 * 60,
};
const timeoutMs = 15_000;

/** @param statePrefix tells the callback page which way its answer goes */
export async function createAuthorizationRequest(
  parameters: Record<string, string> = {},
  statePrefix = '',
): Promise<{ url: string; pending: PendingAuthorization }> {
  const pending = {
    state: statePrefix + oauth.generateRandomState(),
    codeVerifier: oauth.generateRandomCodeVerifier(),
  };
  const url = new URL(String(server.authorization_endpoint));
  url.search = new URLSearchParams({
    client_id: clientId,
    response_type: 'code',
    redirect_uri: redirectUri,
    scope: 'openid tokens:read tokens:write',
    state: pending.state,
    code_challenge: await oauth.calculatePKCECodeChallenge(pending.codeVerifier),
    code_challenge_method: 'S256',
    ...parameters,
  }).toString();
  return { url: url.href, pending };
}

/**
 * Redeems what the callback was called with, once.
 * @throws LoginRequired, AuthorizationFailed
 */
export async function redeem(callback: URL, pending: PendingAuthorization): Promise<Tokens> {
  try {
    const parameters = oauth.validateAuthResponse(server, client, callback, pending.state);
    const requestedAt = performance.now();
    const response = await oauth.authorizationCodeGrantRequest(
      server,
      client,
      oauth.None(),
      parameters,
      redirectUri,
      pending.codeVerifier,
      {
        // Plain http is for loopback; the server refuses it in production.
        [oauth.allowInsecureRequests]: issuer.startsWith('http:'),
        signal: () => AbortSignal.timeout(timeoutMs),
      },
    );
    const answer = await oauth.processAuthorizationCodeResponse(server, client, response, {
      requireIdToken: true,
    });
    return {
      accessToken: answer.access_token,
      expiresAt: requestedAt + (answer.expires_in ?? 0) * 1000,
      idToken: String(answer.id_token),
      userId: String(oauth.getValidatedIdTokenClaims(answer)?.sub),
    };
  } catch (cause) {
    if (cause instanceof oauth.AuthorizationResponseError && cause.error === 'login_required')
      throw new LoginRequired('nobody is signed in', { cause });
    throw new AuthorizationFailed('the sign-in could not be completed', { cause });
  }
}

/**
 * New tokens by the session of this browser, unseen: the request's redirect is followed to the callback's URL, which
 * belongs to this origin (OpenID Connect Core 1.0 §3.1.2.1, `prompt=none`).
 * @throws LoginRequired, AuthorizationFailed
 */
export async function renewSilently(): Promise<Tokens> {
  const { url, pending } = await createAuthorizationRequest({ prompt: 'none' });
  let answered: URL;
  try {
    const response = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout(timeoutMs) });
    // The page itself is of no use here.
    void response.body?.cancel();
    answered = new URL(response.url);
  } catch (cause) {
    throw new AuthorizationFailed('the server did not answer', { cause });
  }
  if (`${answered.origin}${answered.pathname}` !== redirectUri)
    throw new AuthorizationFailed('the server could not answer');
  return redeem(answered, pending);
}

/** RP-Initiated Logout 1.0 §2. */
export function signOutUrl(idToken: string | undefined): string {
  const url = new URL(`${issuer}/oauth/logout`);
  url.search = new URLSearchParams({
    client_id: clientId,
    post_logout_redirect_uri: `${issuer}/dashboard/signed-out`,
    ...(idToken ? { id_token_hint: idToken } : {}),
  }).toString();
  return url.href;
}
