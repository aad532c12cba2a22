import { v7 as uuidv7 } from 'uuid';
import { policy } from '../config/policy.ts';
import { createPlatformToken } from '../server/domain/platform-token.ts';
import type { Database } from '../server/storage/database.ts';
import { createStores } from '../server/storage/stores.ts';

const batch = 10_000;

/**
 * Fills an empty, migrated database: one organization, one service, `count` platform tokens, as many for each member
 * as the product allows.
 * @returns `kept` of the tokens, evenly spread over all
 */
export async function fill(database: Database, count: number, kept: number): Promise<string[]> {
  const { knex } = database;
  const stores = createStores(database, () => {});
  const now = new Date();
  const organizationId = uuidv7();
  const scopes = ['bench:read', 'bench:write'];
  const service = { id: 'bench', name: 'Bench', audience: 'https://bench.example.com', scopes };
  await stores.organizations.insert({ id: organizationId, name: 'Bench', status: 'active', createdAt: now });
  await stores.services.insert({ ...service, status: 'active', createdAt: now });
  const users = Array.from({ length: Math.ceil(count / policy.platformTokenLimit) }, () => uuidv7());
  await knex.raw(
    `INSERT INTO users (id, email, name, kind, created_at)
     SELECT id, id || '@example.com', 'Member', 'person', ? FROM unnest(?::uuid[]) AS id`,
    [now, users],
  );
  await knex.raw(
    `INSERT INTO memberships (organization_id, user_id, role, created_at)
     SELECT ?, id, 'member', ? FROM unnest(?::uuid[]) AS id`,
    [organizationId, now, users],
  );

  const expiresAt = new Date(now.getTime() + policy.platformTokenLifetime * 1000);
  const tokens: string[] = [];
  for (let start = 0; start < count; start += batch) {
    const made = Array.from({ length: Math.min(batch, count - start) }, (_, index) => ({
      ...createPlatformToken('ptk'),
      id: uuidv7(),
      user: users[Math.floor((start + index) / policy.platformTokenLimit)] as string,
    }));
    await knex.raw(
      `INSERT INTO platform_tokens
         (id, organization_id, user_id, service_id, name, digest, hint, scopes, created_at, expires_at)
       SELECT n.id, ?, n.user_id, ?, 'Bench', decode(n.digest, 'hex'), n.hint, ?::text[], ?, ?
       FROM unnest(?::uuid[], ?::uuid[], ?::text[], ?::text[]) AS n (id, user_id, digest, hint)`,
      [
        organizationId,
        service.id,
        scopes,
        now,
        expiresAt,
        made.map(({ id }) => id),
        made.map(({ user }) => user),
        made.map(({ digest }) => digest.toString('hex')),
        made.map(({ hint }) => hint),
      ],
    );
    tokens.push(...made.map(({ token }) => token));
  }
  // What autovacuum and the checkpointer would do some time in the middle of the run.
  await knex.raw('VACUUM ANALYZE');
  await knex.raw('CHECKPOINT');
  const step = Math.max(1, Math.floor(count / kept));
  return tokens.filter((_, index) => index % step === 0).slice(0, kept);
}
