import type { AdapterPayload, ClientMetadata } from 'oidc-provider';
import { dashboardClientId } from '../domain/dashboard-client.ts';
import type { Client } from '../storage/clients.ts';
import { tokenExchangeGrant } from './metadata.ts';

export const anonymousClientId = 'platform-tokens';

/** Both are public. */
export const isBuiltIn = (id: string) => id === anonymousClientId || id === dashboardClientId;

/** Built in, so that the exchange asks the database for the subject token only. */
export function builtInClients(issuer: string): ClientMetadata[] {
  return [
    {
      client_id: anonymousClientId,
      client_name: 'Platform Tokens',
      token_endpoint_auth_method: 'none',
      grant_types: [tokenExchangeGrant],
      response_types: [],
      redirect_uris: [],
    },
    {
      client_id: dashboardClientId,
      client_name: 'Dashboard',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code'],
      response_types: ['code'],
      redirect_uris: [`${issuer}/dashboard/callback`],
      post_logout_redirect_uris: [`${issuer}/dashboard`, `${issuer}/dashboard/signed-out`],
      scope: 'openid tokens:read tokens:write',
    },
  ];
}

/** @returns RFC 7591 metadata; `client_secret` carries the digest of the secret, see provider.ts */
export function toClientMetadata(client: Client, signingAlg: string): AdapterPayload {
  return {
    client_id: client.id,
    client_name: client.name,
    ...(client.secretDigest ? { client_secret: client.secretDigest.toString('base64url') } : {}),
    token_endpoint_auth_method: client.secretDigest ? 'client_secret_basic' : 'none',
    grant_types: [...client.grantTypes],
    response_types: client.grantTypes.includes('authorization_code') ? ['code'] : [],
    redirect_uris: [...client.redirectUris],
    ...(client.scopes.length > 0 ? { scope: client.scopes.join(' ') } : {}),
    id_token_signed_response_alg: signingAlg as never,
  };
}
