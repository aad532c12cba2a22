import type { FindAccount } from 'oidc-provider';
import type { Users } from '../storage/users.ts';

/** Active users only: a deactivated user has no account, wherever the library asks. */
export function createFindAccount(users: Users): FindAccount {
  return async (_ctx, id) => {
    const user = await users.find(id);
    if (user?.status !== 'active') return undefined;
    return { accountId: user.id, claims: () => ({ sub: user.id }) };
  };
}
