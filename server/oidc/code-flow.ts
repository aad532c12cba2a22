import { type Configuration, errors, interactionPolicy, type KoaContextWithOIDC } from 'oidc-provider';
import { adminAudience } from './metadata.ts';

/** What a user may give to a client; `admin` and `introspect` are for machines. */
export const userScopes = ['openid', 'offline_access', 'tokens:read', 'tokens:write'];
const resourceScopes = ['tokens:read', 'tokens:write'];

/**
 * When the code flow turns to the user: to sign in, and never to consent (see docs/decisions/0007). `prompt=consent` is
 * known, because OpenID Connect Core §11 wants it beside `offline_access`, and asks nothing.
 */
export function signInPolicy() {
  const policy = interactionPolicy.base();
  policy.get('consent')?.checks.clear();
  policy.get('login')?.checks.add(
    // The library takes a session for a signed-in user, whatever has become of the user since.
    new interactionPolicy.Check(
      'account_gone',
      'End-User authentication is required',
      'login_required',
      ({ oidc }) => oidc.session?.accountId !== undefined && oidc.account === undefined,
    ),
  );
  policy.get('login')?.checks.add(
    // The library would let the user sign in, and then say that access was denied.
    new interactionPolicy.Check('no_scope', 'no scope is requested that a user may give', ({ oidc }) => {
      if (userScopes.some((scope) => oidc.requestParamScopes.has(scope))) return false;
      // RFC 6749 §3.3. Thrown: a check that answers true would lead to the sign-in.
      throw new errors.CustomOIDCProviderError('invalid_scope', 'no scope is requested that a user may give');
    }),
  );
  return policy;
}

/**
 * The grant of this user, in this browser, to this client: what the client's own scope allows. It follows the scope when
 * an administrator changes it.
 */
export function createLoadExistingGrant(issuer: string): NonNullable<Configuration['loadExistingGrant']> {
  const resource = adminAudience(issuer);
  return async (ctx: KoaContextWithOIDC) => {
    const { client, account, session, provider } = ctx.oidc;
    if (!client || !account) return undefined;
    const allowed = new Set(client.scope?.split(' '));
    const openid = userScopes.filter((scope) => allowed.has(scope)).join(' ');
    const api = resourceScopes.filter((scope) => allowed.has(scope)).join(' ');

    const grantId = session?.grantIdFor(client.clientId);
    const existing = grantId === undefined ? undefined : await provider.Grant.find(grantId);
    const own = existing?.accountId === account.accountId && existing?.clientId === client.clientId;
    if (own && existing.getOIDCScope() === openid && existing.getResourceScope(resource) === api)
      return existing;

    if (own) await existing.destroy();
    const grant = new provider.Grant({ accountId: account.accountId, clientId: client.clientId });
    if (openid) grant.addOIDCScope(openid);
    if (api) grant.addResourceScope(resource, api);
    await grant.save();
    return grant;
  };
}
