import { errors as joseErrors, jwtVerify } from 'jose';
import type { Context } from 'koa';
import { dashboardClientId } from '../domain/dashboard-client.ts';
import { Problem } from '../http/problem.ts';
import type { KeySet } from '../keys/signing-keys.ts';
import type { Artifacts } from '../storage/artifacts.ts';
import type { Client, Clients } from '../storage/clients.ts';
import type { Membership, Memberships } from '../storage/memberships.ts';
import type { Visibility } from '../storage/platform-tokens.ts';
import type { User, Users } from '../storage/users.ts';
import { id as uuid } from './schemas.ts';

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
  readonly artifacts: Artifacts;
  readonly clock: () => Date;
}

/**
 * The one place where the admin API decides who calls. Access tokens are verified as any product API would (RFC 9068
 * §4), then held against the present state: a deleted client or a deactivated user is out at once.
 */
export function createAuthenticate(deps: AuthenticateDeps) {
  const { issuer, keySet, users, memberships, clients, artifacts, clock } = deps;
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
    const { algs, verificationKeys } = keySet();
    try {
      const { payload } = await jwtVerify(token, verificationKeys, {
        issuer,
        audience,
        typ: 'at+jwt',
        algorithms: [...algs],
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

    if (!(await isGranted(payload.grant_id))) throw unauthorized('invalid_token');
    const scopes = new Set(String(payload.scope ?? '').split(' '));
    const caller = await findCaller(String(payload.sub), String(payload.client_id), scopes);
    if (!caller) throw unauthorized('invalid_token');
    return caller;
  };

  /** A user's access token ends with the grant that it came from: by sign-out, or a code that was redeemed twice. */
  async function isGranted(grantId: unknown): Promise<boolean> {
    if (typeof grantId !== 'string') return true;
    return artifacts.exists('Grant', Buffer.from(grantId, 'base64url'), clock());
  }

  /** A client that is gone opens nothing, neither for itself nor for the user who signed in through it. */
  async function findCaller(sub: string, clientId: string, scopes: ReadonlySet<string>) {
    const client = await clients.find(clientId);
    if (sub === clientId) return client && machine(client, scopes);
    if (!client && clientId !== dashboardClientId) return undefined;
    return signedInUser(sub, scopes);
  }

  function machine(client: Client, scopes: ReadonlySet<string>): Caller {
    if (!scopes.has('admin') || !client.scopes.includes('admin')) throw insufficientScope('admin');
    return { type: 'client', id: client.id, visibility: { all: true } };
  }

  async function signedInUser(sub: string, scopes: ReadonlySet<string>): Promise<Caller | undefined> {
    // No user has a subject that is no UUID, and the database would not even take it for a question.
    const { data: id } = uuid.safeParse(sub);
    if (!id) return undefined;
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
