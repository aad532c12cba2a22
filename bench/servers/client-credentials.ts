import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import Provider from 'oidc-provider';
import { clientCredentials } from '../requests.ts';
import { runCandidate } from './candidate.ts';

/**
 * The library by itself: its own `client_credentials` grant for a static client, with JWT access tokens and its own
 * signing; no database, no Koa application around it, no logs.
 */
const { ISSUER } = process.env;
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const audience = 'https://bench.example.com';
const { id, secret, scope } = clientCredentials;

const provider = new Provider(String(ISSUER), {
  clients: [
    {
      client_id: id,
      client_secret: secret,
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
      id_token_signed_response_alg: 'ES256',
      scope,
    },
  ],
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  scopes: scope.split(' '),
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' } as never] },
  routes: { token: '/oauth/token', jwks: '/oauth/jwks' },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      getResourceServerInfo: () => ({
        scope,
        audience,
        accessTokenTTL: 14_400,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
});

await runCandidate(async () => {
  const server = createServer(provider.callback());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close: () => new Promise((resolve) => void server.close(() => resolve())),
  };
});
