import { type JWTPayload, errors as joseErrors, jwtVerify } from 'jose';
import { clientSecretReference } from '../domain/client-secret.ts';
import { dashboardClientId } from '../domain/dashboard-client.ts';
import { endedBySignOut } from '../domain/sign-out.ts';
import { isUuid } from '../domain/uuid.ts';
import type { KeySet } from '../keys/signing-keys.ts';
import type { Artifacts } from '../storage/artifacts.ts';
import type { Client, Clients } from '../storage/clients.ts';
import type { User, Users } from '../storage/users.ts';

export interface AccessTokenDeps {
  readonly issuer: string;
  readonly keySet: () => KeySet;
  readonly users: Users;
  readonly clients: Clients;
  readonly artifacts: Artifacts;
  readonly clock: () => Date;
}

/** Who holds an access token of the admin API, as things are now. The scopes are those that its client may still have. */
export type Holder = { readonly scopes: ReadonlySet<string> } & (
  | { readonly type: 'client'; readonly client: Client }
  | { readonly type: 'user'; readonly user: User }
);

// RFC 7515 §3.1, §2: base64url without anything else; jose would read past white space.
const compactJws = /^[\w-]+\.[\w-]+\.[\w-]+$/;

/** The one place where our own access tokens are verified, and held against the present state. */
export function createAccessTokens({ issuer, keySet, users, clients, artifacts, clock }: AccessTokenDeps) {
  return {
    /**
     * As any product API would (RFC 9068 §4).
     * @param audience left out by who looks at the claim itself
     */
    async verify(token: string, audience?: string): Promise<JWTPayload | undefined> {
      if (!compactJws.test(token)) return undefined;
      const { algs, verificationKeys } = keySet();
      try {
        const { payload } = await jwtVerify(token, verificationKeys, {
          issuer,
          typ: 'at+jwt',
          algorithms: [...algs],
          currentDate: clock(),
          requiredClaims: ['sub', 'aud', 'client_id', 'exp', 'iat', 'jti'],
          ...(audience === undefined ? {} : { audience }),
        });
        return payload;
      } catch (error) {
        if (error instanceof joseErrors.JOSEError) return undefined;
        throw error;
      }
    },

    /**
     * Undefined where the grant, the client, its secret or the user is gone, or the user was signed out everywhere: whoever is
     * deactivated is out at once.
     */
    async findHolder(claims: JWTPayload): Promise<Holder | undefined> {
      const { sub, client_id, grant_id, secret_id, auth_time, iat } = claims;
      if (!(await isGranted(grant_id))) return undefined;
      // A client that is gone opens nothing, neither for itself nor for the user who signed in through it.
      const client = await clients.find(String(client_id));
      if (!client && client_id !== dashboardClientId) return undefined;
      // What was had with a secret ends with it.
      if (client?.secretDigest && secret_id !== clientSecretReference(client.secretDigest)) return undefined;
      const grants = sub === client_id ? ['client_credentials'] : ['authorization_code', 'refresh_token'];
      if (client && !grants.some((grant) => client.grantTypes.includes(grant))) return undefined;
      const scopes = [...scopesOf(claims)].filter((scope) => !client || client.scopes.includes(scope));
      if (sub === client_id) return client && { type: 'client', client, scopes: new Set(scopes) };
      const found = isUuid(sub) ? await users.findWithSignOut(sub) : undefined;
      if (found?.user.status !== 'active') return undefined;
      if (endedBySignOut(Number(auth_time ?? iat), found.signedOutAt)) return undefined;
      return { type: 'user', user: found.user, scopes: new Set(scopes) };
    },
  };

  /** A user's access token ends with the grant that it came from: by sign-out, or a code that was redeemed twice. */
  async function isGranted(grantId: unknown): Promise<boolean> {
    if (typeof grantId !== 'string') return true;
    return artifacts.exists('Grant', Buffer.from(grantId, 'base64url'), clock());
  }
}

/** What the claim `scope` lists. */
export const scopesOf = ({ scope }: JWTPayload): ReadonlySet<string> =>
  new Set(
    String(scope ?? '')
      .split(' ')
      .filter(Boolean),
  );
