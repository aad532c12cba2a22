import type { Knex } from 'knex';
import type { Database, Executor } from './database.ts';
import { type Page, type PageRequest, readPage } from './pages.ts';

export interface StoredSigningKey {
  /** RFC 7638 thumbprint. */
  readonly kid: string;
  readonly alg: string;
  readonly publicJwk: Record<string, unknown>;
  /** Compact JWE of the private JWK. */
  readonly privateJwe: string;
  readonly publishedAt: Date;
  readonly activatesAt: Date;
  readonly retiresAt: Date | null;
}

/** Told to every listening connection when the keys have changed. */
export const signingKeysChannel = 'signing_keys';
const signingKeysLock = 7_301_442;
const columns = 'kid, alg, public_jwk, private_jwe, published_at, activates_at, retires_at';

export type SigningKeys = ReturnType<typeof createSigningKeys>;

export function createSigningKeys({ knex, transact }: Pick<Database, 'knex' | 'transact'>) {
  const list = async (executor: Executor = knex): Promise<StoredSigningKey[]> => {
    const rows = await executor('signing_keys')
      .orderBy(['activates_at', 'kid'])
      .select(executor.raw(columns));
    return (rows as unknown as Row[]).map(toSigningKey);
  };

  return {
    list,

    /** Those that have not retired, the latest to sign first. */
    listAlive(now: Date, page: PageRequest): Promise<Page<StoredSigningKey>> {
      const sort = {
        expression: 'activates_at',
        type: 'timestamptz',
        descending: true,
        id: 'kid',
        idType: 'text',
      } as const;
      const alive = knex('signing_keys').where((either) => {
        either.whereNull('retires_at').orWhere('retires_at', '>', now);
      });
      return readPage<Row, StoredSigningKey>(alive, columns, sort, page, toSigningKey);
    },

    /** The keys, held still: whoever changes them does so inside `work`, one at a time over all instances. */
    withLock<T>(work: (keys: StoredSigningKey[], transaction: Knex.Transaction) => Promise<T>): Promise<T> {
      return transact(async (transaction) => {
        await transaction.raw('SELECT pg_advisory_xact_lock(?)', [signingKeysLock]);
        return work(await list(transaction), transaction);
      });
    },

    async insert(key: StoredSigningKey, executor: Executor): Promise<void> {
      await executor('signing_keys').insert({
        kid: key.kid,
        alg: key.alg,
        public_jwk: JSON.stringify(key.publicJwk),
        private_jwe: key.privateJwe,
        published_at: key.publishedAt,
        activates_at: key.activatesAt,
        retires_at: key.retiresAt,
      });
      await notify(executor);
    },

    async retire(kid: string, at: Date, executor: Executor): Promise<void> {
      await executor('signing_keys').where({ kid }).update({ retires_at: at });
      await notify(executor);
    },

    async delete(kid: string, executor: Executor): Promise<void> {
      await executor('signing_keys').where({ kid }).delete();
      await notify(executor);
    },

    /** Puts another sealing in the place of this one, unless it was replaced meanwhile. */
    async reseal(kid: string, before: string, after: string): Promise<void> {
      await knex('signing_keys').where({ kid, private_jwe: before }).update({ private_jwe: after });
    },

    /** What has left the JWKS is of no use any more, least of all its private half. */
    async deleteExpired(now: Date): Promise<void> {
      await knex('signing_keys').where('retires_at', '<=', now).delete();
    },
  };
}

/** Reaches the others when the transaction commits, and not where it fails. */
async function notify(executor: Executor): Promise<void> {
  await executor.raw('SELECT pg_notify(?, ?)', [signingKeysChannel, '']);
}

interface Row {
  kid: string;
  alg: string;
  public_jwk: Record<string, unknown>;
  private_jwe: string;
  published_at: Date;
  activates_at: Date;
  retires_at: Date | null;
}

function toSigningKey(row: Row): StoredSigningKey {
  return {
    kid: row.kid,
    alg: row.alg,
    publicJwk: row.public_jwk,
    privateJwe: row.private_jwe,
    publishedAt: row.published_at,
    activatesAt: row.activates_at,
    retiresAt: row.retires_at,
  };
}
