import type { Knex } from 'knex';
import type { Executor } from './database.ts';
import { type Page, type PageRequest, readPage } from './pages.ts';

export type Status = 'active' | 'inactive';

export interface Organization {
  readonly id: string;
  readonly name: string;
  readonly status: Status;
  readonly createdAt: Date;
}

const columns = 'id, name, status, created_at';

export type Organizations = ReturnType<typeof createOrganizations>;

export function createOrganizations(knex: Knex) {
  return {
    async insert(organization: Organization, executor: Executor = knex): Promise<void> {
      const { id, name, status, createdAt } = organization;
      await executor('organizations').insert({ id, name, status, created_at: createdAt });
    },

    async find(id: string, executor: Executor = knex): Promise<Organization | undefined> {
      const row = await executor('organizations').where({ id }).first(executor.raw(columns));
      return row && toOrganization(row as Row);
    },

    list(page: PageRequest): Promise<Page<Organization>> {
      const sort = {
        expression: 'created_at',
        type: 'timestamptz',
        descending: true,
        id: 'id',
        idType: 'uuid',
      } as const;
      return readPage<Row, Organization>(knex('organizations'), columns, sort, page, toOrganization);
    },

    /** The organization before the change, locked until the transaction ends. */
    async lock(id: string, transaction: Knex.Transaction): Promise<Organization | undefined> {
      const row = await transaction('organizations')
        .where({ id })
        .forUpdate()
        .first(transaction.raw(columns));
      return row && toOrganization(row as Row);
    },

    async update(
      id: string,
      change: { name?: string | undefined; status?: Status | undefined },
      executor: Executor = knex,
    ) {
      await executor('organizations')
        .where({ id })
        .update({ ...change, id });
    },
  };
}

interface Row {
  id: string;
  name: string;
  status: Status;
  created_at: Date;
}

function toOrganization(row: Row): Organization {
  return { id: row.id, name: row.name, status: row.status, createdAt: row.created_at };
}
