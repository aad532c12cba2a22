import type { Knex } from 'knex';
import type { Executor } from './database.ts';

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

const signingKeysLock = 7_301_442;

export type SigningKeys = ReturnType<typeof createSigningKeys>;

export function createSigningKeys(knex: Knex) {
  const list = async (executor: Executor = knex): Promise<StoredSigningKey[]> => {
    const rows = await executor('signing_keys')
      .orderBy(['activates_at', 'kid'])
      .select('kid', 'alg', 'public_jwk', 'private_jwe', 'published_at', 'activates_at', 'retires_at');
    return rows.map((row) => ({
      kid: row.kid,
      alg: row.alg,
      publicJwk: row.public_jwk,
      privateJwe: row.private_jwe,
      publishedAt: row.published_at,
      activatesAt: row.activates_at,
      retiresAt: row.retires_at,
    }));
  };

  return {
    list,

    async has(kid: string): Promise<boolean> {
      return (await knex('signing_keys').where({ kid }).first('kid')) !== undefined;
    },

    /** The keys; where there are none, the one that `create` makes. Instances that start at once agree on one. */
    listOrInsert(create: () => Promise<StoredSigningKey>): Promise<StoredSigningKey[]> {
      return knex.transaction(async (transaction) => {
        await transaction.raw('SELECT pg_advisory_xact_lock(?)', [signingKeysLock]);
        const keys = await list(transaction);
        if (keys.length > 0) return keys;
        const key = await create();
        await transaction('signing_keys').insert({
          kid: key.kid,
          alg: key.alg,
          public_jwk: JSON.stringify(key.publicJwk),
          private_jwe: key.privateJwe,
          published_at: key.publishedAt,
          activates_at: key.activatesAt,
          retires_at: key.retiresAt,
        });
        return [key];
      });
    },
  };
}
