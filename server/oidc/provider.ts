import type { Middleware, Next } from 'koa';
import compose from 'koa-compose';
import Provider, { type Configuration, errors } from 'oidc-provider';
import type { SigningAlg } from '../../config/env.ts';
import { policy } from '../../config/policy.ts';
import { clientSecretReference, verifyClientSecret } from '../domain/client-secret.ts';
import type { KeySet } from '../keys/signing-keys.ts';
import type { Users } from '../storage/users.ts';
import { createFindAccount } from './account.ts';
import { type AdapterDeps, createAdapterFactory, grantReference } from './adapter.ts';
import { builtInClients } from './clients.ts';
import { createLoadExistingGrant, signInPolicy } from './code-flow.ts';
import { cookiesFor } from './cookies.ts';
import { registerTokenExchange, type TokenExchangeDeps } from './grants/token-exchange.ts';
import { adminAudience, scopesSupported } from './metadata.ts';
import { html, prefersHtml, writePage } from './page.ts';
import { type SignOutDeps, signOut, signOutPages } from './sign-out.ts';
import { SigningKey } from './signing-key.ts';

const adminScopes = ['admin', 'tokens:read', 'tokens:write'];

export interface ProviderDeps
  extends Omit<AdapterDeps, 'signingAlg'>,
    Omit<TokenExchangeDeps, 'keySet'>,
    SignOutDeps {
  readonly keySet: KeySet;
  readonly users: Users;
}

/** One provider for one key set: the library fixes its keys at construction, so a change of keys makes another. */
export function createProvider(deps: ProviderDeps): Provider {
  const { issuer, keySet } = deps;
  const provider = new Provider(issuer, createConfiguration(deps));

  // What storage knows is the digest of a secret; the comparison is by digest, in constant time.
  provider.Client.prototype.compareClientSecret = function compareClientSecret(actual: string) {
    return (
      this.clientSecret !== undefined &&
      verifyClientSecret(actual, Buffer.from(this.clientSecret, 'base64url'))
    );
  };
  registerTokenExchange(provider, { ...deps, keySet });
  provider.use(signOut(deps));
  return provider;
}

function createConfiguration(deps: ProviderDeps): Configuration {
  const { issuer, keySet, sealer } = deps;
  const off = { enabled: false };
  const { names, long, short } = cookiesFor(issuer);
  return {
    adapter: createAdapterFactory({ ...deps, signingAlg: keySet.alg }),
    clients: builtInClients(issuer),
    clientDefaults: {
      id_token_signed_response_alg: keySet.alg as never,
      grant_types: [],
      response_types: [],
    },
    jwks: { keys: keySet.privateJwks.map((jwk) => new SigningKey(jwk, jwk.alg as SigningAlg)) },
    cookies: {
      keys: [...sealer.cookieKeys],
      names: { session: names.session, interaction: names.interaction, resume: names.resume },
      long,
      short,
    },
    scopes: scopesSupported,
    claims: { openid: ['sub'] },
    responseTypes: ['code'],
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'none'],
    // RFC 9700 §2.1.1: PKCE for every client.
    pkce: { required: () => true },
    routes: {
      authorization: '/oauth/authorize',
      token: '/oauth/token',
      jwks: '/oauth/jwks',
      end_session: '/oauth/logout',
    },
    interactions: {
      policy: signInPolicy(),
      url: (_ctx, interaction) =>
        `${new URL(issuer).pathname.replace(/\/$/, '')}/oauth/sign-in/${interaction.uid}`,
    },
    loadExistingGrant: createLoadExistingGrant(issuer),
    features: {
      devInteractions: off,
      userinfo: off,
      dPoP: off,
      pushedAuthorizationRequests: off,
      clientCredentials: { enabled: true },
      externalSigningSupport: { enabled: true, ack: 'experimental-01' },
      rpInitiatedLogout: { enabled: true, ...signOutPages(deps) },
      resourceIndicators: {
        enabled: true,
        // The admin API is the one resource of client_credentials and of the code flow.
        defaultResource: () => adminAudience(issuer),
        useGrantedResource: () => true,
        getResourceServerInfo(_ctx, resource, client) {
          if (resource !== adminAudience(issuer)) throw new errors.InvalidTarget();
          // The library takes a client without a scope for one without limits.
          const allowed = new Set(client.scope?.split(' '));
          return {
            scope: adminScopes.filter((scope) => allowed.has(scope)).join(' '),
            audience: adminAudience(issuer),
            accessTokenFormat: 'jwt',
            jwt: { sign: { alg: keySet.alg as never } },
          };
        },
      },
    },
    // Browsers use the dashboard, which is of the same origin.
    clientBasedCORS: () => false,
    findAccount: createFindAccount(deps.users),
    // The admin API asks whether what a token came from is still there: a sign-out, a new password and a new secret end what they gave.
    extraTokenClaims({ oidc: { client, entities } }, token) {
      const digest = client?.clientSecret;
      const secret_id = digest && clientSecretReference(Buffer.from(digest, 'base64url'));
      if (token.kind !== 'AccessToken') return { secret_id };
      // RFC 9068 §2.2.1
      const { authTime } = entities.AuthorizationCode ?? entities.RefreshToken ?? {};
      return { secret_id, grant_id: grantReference(String(token.grantId)), auth_time: authTime };
    },
    formats: {
      customizers: {
        jwt(_ctx, _token, { payload }) {
          // The library goes by the machine's clock, which may not be the one that all instances go by.
          const ahead = Math.round((deps.clock().getTime() - Date.now()) / 1000);
          if (ahead === 0) return;
          for (const claim of ['iat', 'exp'] as const) payload[claim] = Number(payload[claim]) + ahead;
        },
      },
    },
    ttl: {
      AccessToken: policy.userTokenLifetime,
      ClientCredentials: policy.machineTokenLifetime,
      AuthorizationCode: policy.authorizationCodeLifetime,
      IdToken: policy.userTokenLifetime,
      Interaction: policy.interactionLifetime,
      Session: policy.sessionLifetime,
      Grant: policy.sessionLifetime,
      RefreshToken: policy.refreshTokenLifetime,
    },
    // A person gets a page, a program JSON; neither with anything of the request.
    renderError(ctx, { error, error_description }, cause) {
      if (!prefersHtml(ctx)) {
        ctx.type = 'json';
        ctx.body = { error, error_description };
        return;
      }
      const gone = cause instanceof errors.SessionNotFound;
      writePage(ctx, {
        status: ctx.status,
        title: (texts) => (gone ? texts.gone : texts.notPossible),
        content: (texts) => html`<p role="alert">${gone ? texts.goneText : texts.notPossibleText}</p>
${gone ? html`` : html`<p><code>${error}</code></p>`}
<a class="button" href="${issuer}/dashboard">${texts.startAgain}</a>`,
      });
    },
  };
}

/** The provider as a middleware whose failures are thrown: the library would answer them itself, with a 500. */
export function providerMiddleware(provider: () => Provider): Middleware {
  const failures = new WeakMap<object, unknown>();
  const composed = new WeakMap<Provider, Middleware>();
  return async (ctx, next) => {
    const current = provider();
    let run = composed.get(current);
    if (!run) {
      current.on('server_error', (failed, error) => void failures.set(failed.req, error));
      run = compose(current.middleware as Middleware[]);
      composed.set(current, run);
    }
    // After the listener of the request log, which stands before all and still reads the context.
    ctx.res.on('close', () => letGo(ctx));
    // The library's getter (see letGo) leads to this too, and by it to all that stands before.
    let after: Next | undefined = next;
    await run(ctx, async () => after?.());
    after = undefined;
    if (failures.has(ctx.req)) throw failures.get(ctx.req);
  };
}

interface AnsweredContext {
  readonly res: { readonly writableFinished: boolean };
}

/**
 * Empties the context of an answered request. The library defines a getter on each, and V8 keeps every getter in the
 * old space: until the next major collection it would hold the request and all that was made for it, and the minor
 * ones would copy that twice, at a fifth of the CPU of an exchange. A request whose client went away may still be
 * under way, and keeps its context.
 */
export function letGo(ctx: AnsweredContext): void {
  if (!ctx.res.writableFinished) return;
  const { oidc } = ctx as { oidc?: object };
  if (oidc) clear(oidc as Record<string, unknown>);
  clear(ctx as unknown as Record<string, unknown>);
}

function clear(object: Record<string, unknown>): void {
  for (const name of Object.keys(object)) object[name] = undefined;
}
