import { errors as joseErrors, jwtVerify } from 'jose';
import type { Context } from 'koa';
import { Problem } from '../http/problem.ts';
import type { KeySet } from '../keys/signing-keys.ts';
import type { Clients } from '../storage/clients.ts';
import type { Membership, Memberships } from '../storage/memberships.ts';
import type { Visibility } from '../storage/platform-tokens.ts';
import type { User, Users } from '../storage/users.ts';

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

export interface AuthenticateDeps {
  readonly issuer: string;
  readonly keySet: () => KeySet;
  readonly users: Users;
  readonly memberships: Memberships;
  readonly clients: Clients;
}

/**
 * The one place where the admin API decides who calls. Access tokens are verified as any product API would (RFC 9068
 * §4), then held against the present state: a deleted client or a deactivated user is out at once.
 */
export function createAuthenticate({ issuer, keySet, users, memberships, clients }: AuthenticateDeps) {
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

  async function verify(token: string) {
    const { alg, verificationKeys } = keySet();
    try {
      const { payload } = await jwtVerify(token, verificationKeys, {
        issuer,
        audience,
        typ: 'at+jwt',
        algorithms: [alg],
        requiredClaims: ['sub', 'client_id', 'exp', 'iat', 'jti'],
      });
      return payload;
    } catch (error) {
      if (error instanceof joseErrors.JOSEError) return undefined;
      throw error;
    }
  }

  return async function authenticate(ctx: Context): Promise<Caller> {
    const header = ctx.headers.authorization;
    if (header === undefined) throw unauthorized();
    const token = /^Bearer +([\w-]+\.[\w-]+\.[\w-]+)$/i.exec(header)?.[1];
    const payload = token ? await verify(token) : undefined;
    // A token that was exchanged for a platform token carries its id, and opens nothing here.
    if (!payload || payload.token_id !== undefined) throw unauthorized('invalid_token');

    const scopes = new Set(String(payload.scope ?? '').split(' '));
    const caller =
      payload.sub === payload.client_id
        ? await machine(String(payload.sub), scopes)
        : await signedInUser(String(payload.sub), scopes);
    if (!caller) throw unauthorized('invalid_token');
    return caller;
  };

  async function machine(id: string, scopes: ReadonlySet<string>): Promise<Caller | undefined> {
    const client = await clients.find(id);
    if (!client) return undefined;
    if (!scopes.has('admin') || !client.scopes.includes('admin')) throw insufficientScope('admin');
    return { type: 'client', id, visibility: { all: true } };
  }

  async function signedInUser(id: string, scopes: ReadonlySet<string>): Promise<Caller | undefined> {
    const user = await users.find(id);
    if (user?.status !== 'active') return undefined;
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
