import type { FindAccount } from 'oidc-provider';
import { endedBySignOut } from '../domain/sign-out.ts';
import type { Users } from '../storage/users.ts';

/**
 * Active users only: a deactivated user has no account, wherever the library asks. Nor has anybody for a session, a code
 * or a refresh token that began before the user was signed out everywhere.
 */
export function createFindAccount(users: Users): FindAccount {
  return async (ctx, id, source) => {
    const found = await users.findWithSignOut(id);
    if (found?.user.status !== 'active') return undefined;
    const began = (source as { authTime?: number } | undefined)?.authTime ?? ctx.oidc.session?.loginTs;
    if (began !== undefined && endedBySignOut(began, found.signedOutAt)) return undefined;
    return { accountId: id, claims: () => ({ sub: id }) };
  };
}
