import type { Knex } from 'knex';
import type { Executor } from './database.ts';
import { type Page, type PageRequest, readPage } from './pages.ts';
import { userContains } from './users.ts';

export type Role = 'member' | 'admin';

export interface Membership {
  readonly organizationId: string;
  readonly organizationName: string;
  readonly userId: string;
  readonly role: Role;
}

export interface Member {
  readonly userId: string;
  readonly email: string;
  readonly name: string;
  readonly kind: string;
  readonly status: string;
  readonly role: Role;
  readonly createdAt: Date;
}

export interface MemberFilter {
  readonly userIds?: readonly string[] | undefined;
  /** Literal substring of the name or the e-mail, any case. */
  readonly text?: string | undefined;
}

export type Memberships = ReturnType<typeof createMemberships>;

export function createMemberships(knex: Knex) {
  return {
    /** A user's memberships in active organizations. */
    async listForUser(userId: string): Promise<Membership[]> {
      const rows = await knex('memberships as m')
        .join('organizations as o', 'o.id', 'm.organization_id')
        .where({ 'm.user_id': userId, 'o.status': 'active' })
        .orderBy(['o.name', 'o.id'])
        .select('m.organization_id', 'o.name as organization_name', 'm.user_id', 'm.role');
      return rows.map((row) => ({
        organizationId: row.organization_id,
        organizationName: row.organization_name,
        userId: row.user_id,
        role: row.role,
      }));
    },

    listMembers(
      organizationId: string,
      { userIds, text }: MemberFilter,
      page: PageRequest,
    ): Promise<Page<Member>> {
      const sort = {
        expression: 'm.created_at',
        type: 'timestamptz',
        descending: false,
        id: 'm.user_id',
        idType: 'uuid',
      } as const;
      const filtered = knex('memberships as m')
        .join('users as u', 'u.id', 'm.user_id')
        .where('m.organization_id', organizationId)
        .where(userContains(text, 'u'));
      if (userIds) filtered.whereIn('m.user_id', userIds);
      const columns = 'm.user_id, u.email, u.name, u.kind, u.status, m.role, m.created_at';
      return readPage<MemberRow, Member>(filtered, columns, sort, page, (row) => ({
        userId: row.user_id,
        email: row.email,
        name: row.name,
        kind: row.kind,
        status: row.status,
        role: row.role,
        createdAt: row.created_at,
      }));
    },

    /**
     * Locks one membership until the transaction ends. Everything that counts or revokes a member's tokens takes this
     * lock first, so that the limit of 20 holds and a removed member cannot get a token on the way out.
     */
    async lock(
      organizationId: string,
      userId: string,
      transaction: Knex.Transaction,
    ): Promise<Role | undefined> {
      const row = await transaction('memberships')
        .where({ organization_id: organizationId, user_id: userId })
        .forUpdate()
        .first('role');
      return row?.role;
    },

    async put(
      organizationId: string,
      userId: string,
      role: Role,
      now: Date,
      executor: Executor = knex,
    ): Promise<void> {
      await executor('memberships')
        .insert({ organization_id: organizationId, user_id: userId, role, created_at: now })
        .onConflict(['organization_id', 'user_id'])
        .merge(['role']);
    },

    async remove(organizationId: string, userId: string, executor: Executor = knex): Promise<boolean> {
      return (
        (await executor('memberships').where({ organization_id: organizationId, user_id: userId }).delete()) >
        0
      );
    },
  };
}

interface MemberRow {
  user_id: string;
  email: string;
  name: string;
  kind: string;
  status: string;
  role: Role;
  created_at: Date;
}
