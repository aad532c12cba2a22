import type { Knex } from 'knex';
import { clientIdPattern } from '../../config/policy.ts';
import type { Executor } from './database.ts';
import { type Page, type PageRequest, readPage } from './pages.ts';

export interface Client {
  readonly id: string;
  readonly name: string;
  /** SHA-256; null for a public client. */
  readonly secretDigest: Buffer | null;
  readonly grantTypes: readonly string[];
  readonly scopes: readonly string[];
  readonly redirectUris: readonly string[];
  readonly serviceId: string | null;
  readonly createdAt: Date;
}

export type ClientChange = Partial<
  Pick<Client, 'name' | 'grantTypes' | 'scopes' | 'redirectUris' | 'serviceId' | 'secretDigest'>
>;

const columns = 'id, name, secret_digest, grant_types, scopes, redirect_uris, service_id, created_at';

export type Clients = ReturnType<typeof createClients>;

export function createClients(knex: Knex) {
  return {
    /** @returns false where the id is taken */
    async insert(client: Client, executor: Executor = knex): Promise<boolean> {
      const rows = await executor('clients')
        .insert({ id: client.id, created_at: client.createdAt, ...toColumns(client) })
        .onConflict('id')
        .ignore()
        .returning('id');
      return rows.length > 0;
    },

    async find(id: string, executor: Executor = knex): Promise<Client | undefined> {
      if (!clientIdPattern.test(id)) return undefined;
      const row = await executor('clients').where({ id }).first(executor.raw(columns));
      return row && toClient(row as Row);
    },

    list(page: PageRequest): Promise<Page<Client>> {
      const sort = {
        expression: 'created_at',
        type: 'timestamptz',
        descending: true,
        id: 'id',
        idType: 'text',
      } as const;
      return readPage<Row, Client>(knex('clients'), columns, sort, page, toClient);
    },

    async lock(id: string, transaction: Knex.Transaction): Promise<Client | undefined> {
      const row = await transaction('clients').where({ id }).forUpdate().first(transaction.raw(columns));
      return row && toClient(row as Row);
    },

    async update(id: string, change: ClientChange, executor: Executor = knex): Promise<void> {
      await executor('clients')
        .where({ id })
        .update({ id, ...toColumns(change) });
    },

    async delete(id: string, executor: Executor = knex): Promise<boolean> {
      return (await executor('clients').where({ id }).delete()) > 0;
    },
  };
}

function toColumns(client: ClientChange): Record<string, unknown> {
  const values = {
    name: client.name,
    secret_digest: client.secretDigest,
    grant_types: client.grantTypes,
    scopes: client.scopes,
    redirect_uris: client.redirectUris,
    service_id: client.serviceId,
  };
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

interface Row {
  id: string;
  name: string;
  secret_digest: Buffer | null;
  grant_types: string[];
  scopes: string[];
  redirect_uris: string[];
  service_id: string | null;
  created_at: Date;
}

function toClient(row: Row): Client {
  return {
    id: row.id,
    name: row.name,
    secretDigest: row.secret_digest,
    grantTypes: row.grant_types,
    scopes: row.scopes,
    redirectUris: row.redirect_uris,
    serviceId: row.service_id,
    createdAt: row.created_at,
  };
}
