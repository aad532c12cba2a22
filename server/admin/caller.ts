import type { JWTPayload } from 'jose';
import type { Context } from 'koa';
import { type AccessTokenDeps, createAccessTokens } from '../http/access-tokens.ts';
import { Problem } from '../http/problem.ts';
import type { Client } from '../storage/clients.ts';
import type { Membership, Memberships } from '../storage/memberships.ts';
import type { Visibility } from '../storage/platform-tokens.ts';
import type { User } from '../storage/users.ts';

/** Who calls the admin API: a machine administrator, or a signed-in user with what they may see. */
export type Caller =
  | { readonly type: 'client'; readonly id: string; readonly visibility: Visibility }
  | {
      readonly type: 'user';
      readonly id: string;
      readonly user: User;
      readonly memberships: readonly Membership[];
      readonly visibility: Visibility;
      readonly scopes: ReadonlySet<string>;
    };

export interface AuthenticateDeps extends AccessTokenDeps {
  readonly memberships: Memberships;
}

export interface Authenticate {
  /** By the access token alone, without a query. @throws Problem 401 */
  verify(ctx: Context): Promise<JWTPayload>;
  /** By the present state. @throws Problem 401, 403 */
  findCaller(claims: JWTPayload): Promise<Caller>;
}

/** The one place where the admin API decides who calls. */
export function createAuthenticate(deps: AuthenticateDeps): Authenticate {
  const { issuer, memberships } = deps;
  const accessTokens = createAccessTokens(deps);
  const audience = `${issuer}/admin`;
  const metadata = `${issuer}/.well-known/oauth-protected-resource/admin`;

  const unauthorized = (error?: string) =>
    new Problem({
      status: 401,
      title: 'Unauthorized',
      detail: error ? 'The access token is not valid here.' : 'A bearer access token is required.',
      // RFC 6750 §3, RFC 9728 §5.1
      headers: {
        'WWW-Authenticate': `Bearer ${error ? `error="${error}", ` : ''}resource_metadata="${metadata}"`,
      },
    });

  return {
    async verify(ctx) {
      const header = ctx.headers.authorization;
      // RFC 6750 §3.1: no error code for whoever sends nothing, or a credential of another scheme.
      if (header === undefined || !/^Bearer(?: |$)/i.test(header)) throw unauthorized();
      const token = /^Bearer +(\S+)$/i.exec(header)?.[1];
      const claims = token ? await accessTokens.verify(token, audience) : undefined;
      // A token that was exchanged for a platform token carries its id, and opens nothing here.
      if (!claims || claims.token_id !== undefined) throw unauthorized('invalid_token');
      return claims;
    },
    async findCaller(claims) {
      const holder = await accessTokens.findHolder(claims);
      if (!holder) throw unauthorized('invalid_token');
      return holder.type === 'client'
        ? machine(holder.client, holder.scopes)
        : signedInUser(holder.user, holder.scopes);
    },
  };

  function machine(client: Client, scopes: ReadonlySet<string>): Caller {
    if (!scopes.has('admin')) throw insufficientScope('admin');
    return { type: 'client', id: client.id, visibility: { all: true } };
  }

  async function signedInUser(user: User, scopes: ReadonlySet<string>): Promise<Caller> {
    const { id } = user;
    const own = await memberships.listForUser(id);
    const adminOf = own.filter(({ role }) => role === 'admin').map(({ organizationId }) => organizationId);
    const memberOf = own.map(({ organizationId }) => organizationId);
    return {
      type: 'user',
      id,
      user,
      memberships: own,
      visibility: { all: false, userId: id, memberOf, adminOf },
      scopes,
    };
  }
}

export function insufficientScope(scope: string): Problem {
  return new Problem({
    status: 403,
    title: 'Forbidden',
    detail: `The scope ${scope} is required.`,
    headers: { 'WWW-Authenticate': `Bearer error="insufficient_scope", scope="${scope}"` },
  });
}
