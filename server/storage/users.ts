import type { Knex } from 'knex';
import type { Executor } from './database.ts';
import type { Status } from './organizations.ts';
import { likeSubstring, type Page, type PageRequest, readPage } from './pages.ts';

export type UserKind = 'person' | 'service_account';

export interface User {
  readonly id: string;
  readonly email: string;
  readonly name: string;
  readonly kind: UserKind;
  readonly status: Status;
  readonly createdAt: Date;
}

export interface UserChange {
  readonly name?: string | undefined;
  readonly email?: string | undefined;
  readonly passwordHash?: string | undefined;
  readonly status?: Status | undefined;
  /** Ends every session that has begun, up to this second. */
  readonly signsOut?: boolean | undefined;
}

const columns = 'id, email, name, kind, status, created_at';

export type Users = ReturnType<typeof createUsers>;

export function createUsers(knex: Knex) {
  return {
    async insert(
      user: User & { readonly passwordHash: string | null },
      executor: Executor = knex,
    ): Promise<void> {
      const { id, email, name, kind, status, createdAt, passwordHash } = user;
      await executor('users').insert({
        id,
        email,
        name,
        kind,
        status,
        created_at: createdAt,
        password_hash: passwordHash,
      });
    },

    async find(id: string, executor: Executor = knex): Promise<User | undefined> {
      const row = await executor('users').where({ id }).first(executor.raw(columns));
      return row && toUser(row as Row);
    },

    /** For sessions: with the moment that ended those from before. */
    async findWithSignOut(id: string): Promise<{ user: User; signedOutAt: Date | null } | undefined> {
      const row = await knex('users')
        .where({ id })
        .first(knex.raw(`${columns}, signed_out_at`));
      if (!row) return undefined;
      const { signed_out_at: signedOutAt } = row as { signed_out_at: Date | null };
      return { user: toUser(row as unknown as Row), signedOutAt };
    },

    /** For signing in: with the bcrypt hash, by e-mail in any case. */
    async findCredentials(
      email: string,
      executor: Executor = knex,
    ): Promise<{ user: User; passwordHash: string | null } | undefined> {
      const row = await executor('users')
        .whereRaw('lower(email) = lower(?)', [email])
        .first(executor.raw(`${columns}, password_hash`));
      return (
        row && {
          user: toUser(row as unknown as Row),
          passwordHash: (row as { password_hash: string | null }).password_hash,
        }
      );
    },

    /**
     * That an active person still has this password, once whatever changes them at the moment is done; and when that was, by the
     * clock of those who change it.
     * @returns undefined where it is not so
     */
    async confirmCredentials(
      id: string,
      passwordHash: string | null,
    ): Promise<{ at: Date; signedOutAt: Date | null } | undefined> {
      const row = await knex('users')
        .where({ id, password_hash: passwordHash, status: 'active', kind: 'person' })
        .forShare()
        .first('signed_out_at', knex.raw('clock_timestamp() AS at'));
      return row && { at: row.at, signedOutAt: row.signed_out_at };
    },

    /** @param text literal substring of the name or the e-mail, any case */
    list(text: string | undefined, page: PageRequest): Promise<Page<User>> {
      const sort = {
        expression: 'created_at',
        type: 'timestamptz',
        descending: true,
        id: 'id',
        idType: 'uuid',
      } as const;
      const filtered = knex('users').where(userContains(text, 'users'));
      return readPage<Row, User>(filtered, columns, sort, page, toUser);
    },

    async lock(id: string, transaction: Knex.Transaction): Promise<User | undefined> {
      const row = await transaction('users').where({ id }).forUpdate().first(transaction.raw(columns));
      return row && toUser(row as Row);
    },

    async update(
      id: string,
      { passwordHash, signsOut, ...change }: UserChange,
      executor: Executor = knex,
    ): Promise<void> {
      await executor('users')
        .where({ id })
        .update({
          id,
          ...change,
          ...(passwordHash === undefined ? {} : { password_hash: passwordHash }),
          // Each in a second of its own (domain/sign-out.ts).
          ...(signsOut && {
            signed_out_at: knex.raw("GREATEST(clock_timestamp(), signed_out_at + interval '1 second')"),
          }),
        });
    },
  };
}

/**
 * @param text literal substring of the name or the e-mail, any case
 * @param table under which name the query has the users
 */
export function userContains(text: string | undefined, table: 'users' | 'u') {
  return (query: Knex.QueryBuilder): void => {
    if (!text) return;
    const pattern = likeSubstring(text);
    query.whereRaw(`lower(${table}.name) LIKE lower(?) ESCAPE '\\'`, [pattern]);
    query.orWhereRaw(`lower(${table}.email) LIKE lower(?) ESCAPE '\\'`, [pattern]);
  };
}

interface Row {
  id: string;
  email: string;
  name: string;
  kind: UserKind;
  status: Status;
  created_at: Date;
}

function toUser(row: Row): User {
  return {
    id: row.id,
    email: row.email,
    name: row.name,
    kind: row.kind,
    status: row.status,
    createdAt: row.created_at,
  };
}
