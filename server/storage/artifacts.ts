import type { Knex } from 'knex';
import type { Executor } from './database.ts';

/** One of the provider's opaque artifacts, as stored: nothing in it is a usable value. */
export interface Artifact {
  readonly kind: string;
  readonly idDigest: Buffer;
  readonly payload: string;
  readonly uidDigest: Buffer | null;
  readonly grantDigest: Buffer | null;
  readonly expiresAt: Date;
}

export interface StoredArtifact {
  readonly payload: string;
  readonly consumedAt: Date | null;
}

export type Artifacts = ReturnType<typeof createArtifacts>;

export function createArtifacts(knex: Knex) {
  const toStored = (
    row: { payload: string; consumed_at: Date | null } | undefined,
  ): StoredArtifact | undefined => row && { payload: row.payload, consumedAt: row.consumed_at };

  return {
    async upsert(artifact: Artifact): Promise<void> {
      await knex('oidc_artifacts')
        .insert({
          kind: artifact.kind,
          id_digest: artifact.idDigest,
          payload: artifact.payload,
          uid_digest: artifact.uidDigest,
          grant_digest: artifact.grantDigest,
          expires_at: artifact.expiresAt,
        })
        .onConflict(['kind', 'id_digest'])
        .merge(['payload', 'uid_digest', 'grant_digest', 'expires_at']);
    },

    async find(kind: string, idDigest: Buffer, now: Date): Promise<StoredArtifact | undefined> {
      const row = await knex('oidc_artifacts')
        .where({ kind, id_digest: idDigest })
        .where('expires_at', '>', now)
        .first('payload', 'consumed_at');
      return toStored(row);
    },

    async findByUid(kind: string, uidDigest: Buffer, now: Date): Promise<StoredArtifact | undefined> {
      const row = await knex('oidc_artifacts')
        .where({ kind, uid_digest: uidDigest })
        .where('expires_at', '>', now)
        .first('payload', 'consumed_at');
      return toStored(row);
    },

    /** @returns true for exactly one of any number of concurrent callers (RFC 6749 §4.1.2: a code is used once) */
    async consume(kind: string, idDigest: Buffer, now: Date): Promise<boolean> {
      const changed = await knex('oidc_artifacts')
        .where({ kind, id_digest: idDigest })
        .whereNull('consumed_at')
        .update({ consumed_at: now });
      return changed === 1;
    },

    /**
     * Ends the grant that an artifact came from, and all that came from it.
     * @returns whether there was something to end: of concurrent callers one is told so
     */
    async deleteWithGrant(kind: string, idDigest: Buffer, executor: Executor = knex): Promise<boolean> {
      const { rowCount } = await executor.raw(
        `WITH ended AS (SELECT grant_digest FROM oidc_artifacts WHERE kind = ? AND id_digest = ?)
        DELETE FROM oidc_artifacts WHERE grant_digest = (SELECT grant_digest FROM ended)
          OR (kind = 'Grant' AND id_digest = (SELECT grant_digest FROM ended))`,
        [kind, idDigest],
      );
      return rowCount > 0;
    },

    async exists(kind: string, idDigest: Buffer, now: Date): Promise<boolean> {
      const row = await knex('oidc_artifacts')
        .where({ kind, id_digest: idDigest })
        .where('expires_at', '>', now)
        .first(knex.raw('1 AS found'));
      return row !== undefined;
    },

    async delete(kind: string, idDigest: Buffer): Promise<void> {
      await knex('oidc_artifacts').where({ kind, id_digest: idDigest }).delete();
    },

    async deleteByGrant(grantDigest: Buffer): Promise<void> {
      await knex('oidc_artifacts').where({ grant_digest: grantDigest }).delete();
    },

    /** In bounded batches, so that a sweep never holds many rows at once, until none is left. */
    async deleteExpired(now: Date, batch = 1000): Promise<number> {
      const expired = knex('oidc_artifacts')
        .where('expires_at', '<=', now)
        .limit(batch)
        .select('kind', 'id_digest');
      let total = 0;
      for (;;) {
        const deleted = await knex('oidc_artifacts').whereIn(['kind', 'id_digest'], expired.clone()).delete();
        total += deleted;
        if (deleted < batch) return total;
      }
    },
  };
}
