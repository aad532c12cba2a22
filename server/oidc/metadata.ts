import type Router from '@koa/router';
import type { Middleware } from 'koa';
import { policy } from '../../config/policy.ts';
import { type Document, documentOf, writeDocument } from '../http/documents.ts';
import { createRouter } from '../http/router.ts';
import type { KeySet } from '../keys/signing-keys.ts';

export const scopesSupported = [
  'openid',
  'offline_access',
  'admin',
  'tokens:read',
  'tokens:write',
  'introspect',
];
export const tokenExchangeGrant = 'urn:ietf:params:oauth:grant-type:token-exchange';

/** Audience of the admin API's access tokens (contract §7). */
export const adminAudience = (issuer: string) => `${issuer}/admin`;

export interface MetadataDeps {
  readonly issuer: string;
  readonly keySet: () => KeySet;
}

/**
 * Metadata and JWKS, from ISSUER alone and from memory: the library would build their URLs from the request's Host,
 * and would send no cache headers.
 */
export function metadataRoutes({ issuer, keySet }: MetadataDeps): {
  mounted: Router;
  root: Middleware;
} {
  const documents = new Map<string, Document>();
  /** What is signed here, and with what, follows the keys. */
  const server = (): Document => {
    const { algs } = keySet();
    const name = algs.join();
    const found = documents.get(name) ?? document(authorizationServerMetadata(issuer, algs));
    documents.set(name, found);
    return found;
  };
  const admin = document(adminResourceMetadata(issuer));
  const mounted = createRouter();
  const json = 'application/json';

  for (const path of ['/.well-known/openid-configuration', '/.well-known/oauth-authorization-server']) {
    mounted.get(path, (ctx) => writeDocument(ctx, server(), json, policy.metadataMaxAge));
  }
  mounted.get('/.well-known/oauth-protected-resource/admin', (ctx) =>
    writeDocument(ctx, admin, json, policy.metadataMaxAge),
  );
  mounted.get('/oauth/jwks', (ctx) =>
    writeDocument(ctx, keySet().jwks, 'application/jwk-set+json', policy.jwksMaxAge),
  );

  // RFC 8414 §3.1, RFC 9728 §3.1: the well-known segment stands before the issuer's path.
  const path = new URL(issuer).pathname.replace(/\/$/, '');
  const inserted = new Map<string, () => Document>([
    [`/.well-known/openid-configuration${path}`, server],
    [`/.well-known/oauth-authorization-server${path}`, server],
    [`/.well-known/oauth-protected-resource${path}/admin`, () => admin],
  ]);
  // No router: its patterns would read an issuer's parentheses and asterisks as their own.
  const root: Middleware = (ctx, next) => {
    const found = /^(GET|HEAD)$/.test(ctx.method) ? inserted.get(ctx.path) : undefined;
    if (!found) return next();
    ctx.state.route = ctx.path;
    writeDocument(ctx, found(), json, policy.metadataMaxAge);
  };
  return { mounted, root };
}

/** RFC 8414 §2 and OpenID Connect Discovery 1.0 §3. */
function authorizationServerMetadata(issuer: string, signingAlgs: readonly string[]) {
  return {
    issuer,
    authorization_endpoint: `${issuer}/oauth/authorize`,
    token_endpoint: `${issuer}/oauth/token`,
    jwks_uri: `${issuer}/oauth/jwks`,
    end_session_endpoint: `${issuer}/oauth/logout`,
    scopes_supported: scopesSupported,
    response_types_supported: ['code'],
    response_modes_supported: ['query', 'fragment', 'form_post'],
    grant_types_supported: [tokenExchangeGrant, 'client_credentials', 'authorization_code', 'refresh_token'],
    token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post', 'none'],
    introspection_endpoint: `${issuer}/oauth/introspect`,
    introspection_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
    // RFC 9701 §7
    introspection_signing_alg_values_supported: signingAlgs,
    revocation_endpoint: `${issuer}/oauth/revoke`,
    revocation_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post', 'none'],
    code_challenge_methods_supported: ['S256'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: signingAlgs,
    authorization_response_iss_parameter_supported: true,
    claims_parameter_supported: false,
    request_parameter_supported: false,
    request_uri_parameter_supported: false,
    protected_resources: [adminAudience(issuer)],
  };
}

/** RFC 9728 §2. */
function adminResourceMetadata(issuer: string) {
  return {
    resource: adminAudience(issuer),
    authorization_servers: [issuer],
    scopes_supported: ['admin', 'tokens:read', 'tokens:write'],
    bearer_methods_supported: ['header'],
    resource_name: 'Platform Tokens admin API',
  };
}

const document = (value: unknown): Document => documentOf(JSON.stringify(value));
