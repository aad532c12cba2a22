import type { Knex } from 'knex';
import type { Executor } from './database.ts';
import type { Status } from './organizations.ts';
import { type Page, type PageRequest, readPage } from './pages.ts';

export interface Service {
  /** Slug. */
  readonly id: string;
  readonly name: string;
  /** The `aud` of its access tokens. */
  readonly audience: string;
  readonly scopes: readonly string[];
  readonly status: Status;
  readonly createdAt: Date;
}

const columns = 'id, name, audience, scopes, status, created_at';

export type Services = ReturnType<typeof createServices>;

export function createServices(knex: Knex) {
  return {
    async insert(service: Service, executor: Executor = knex): Promise<void> {
      const { createdAt, ...rest } = service;
      await executor('services').insert({ ...rest, created_at: createdAt });
    },

    async find(id: string, executor: Executor = knex): Promise<Service | undefined> {
      const row = await executor('services').where({ id }).first(executor.raw(columns));
      return row && toService(row as Row);
    },

    list(page: PageRequest): Promise<Page<Service>> {
      const sort = {
        expression: 'lower(name)',
        type: 'text',
        descending: false,
        id: 'id',
        idType: 'text',
      } as const;
      return readPage<Row, Service>(knex('services'), columns, sort, page, toService);
    },

    async lock(id: string, transaction: Knex.Transaction): Promise<Service | undefined> {
      const row = await transaction('services').where({ id }).forUpdate().first(transaction.raw(columns));
      return row && toService(row as Row);
    },

    async update(
      id: string,
      change: Partial<Pick<Service, 'name' | 'scopes' | 'status'>>,
      executor: Executor = knex,
    ) {
      await executor('services')
        .where({ id })
        .update({ id, ...change });
    },
  };
}

interface Row {
  id: string;
  name: string;
  audience: string;
  scopes: string[];
  status: Status;
  created_at: Date;
}

function toService(row: Row): Service {
  return {
    id: row.id,
    name: row.name,
    audience: row.audience,
    scopes: row.scopes,
    status: row.status,
    createdAt: row.created_at,
  };
}
