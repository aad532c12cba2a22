import { v7 as uuidv7 } from 'uuid';
import { policy } from '../config/policy.ts';
import type { Database } from '../server/storage/database.ts';
import { createStores } from '../server/storage/stores.ts';

export const sizes = {
  members: 500,
  tokens: 10_000,
  /** Of these, what one member has gathered over the years: expired and revoked, but for 20. */
  gathered: 2_000,
  otherOrganizations: 100,
  otherMembers: 50,
  otherTokens: 100_000,
  /** Of one token of that member. */
  exchanges: 50_000,
  otherExchanges: 200_000,
};
/** Of the token with the exchanges. */
export const uniqueName = 'The only one';
export const services = ['connectors', 'language-ai', 'strings', 'studio', 'tms'];

export interface Filled {
  readonly organizationId: string;
  readonly adminId: string;
  /** Who has gathered tokens. */
  readonly memberId: string;
  readonly colleagueId: string;
  /** The token with the exchanges. */
  readonly tokenId: string;
}

/**
 * Fills an empty, migrated database. Names, times and states are spread evenly and are the same in every run; a name has
 * its number, and every fourth has `deploy` in it.
 */
export async function fillLists({ knex }: Database): Promise<Filled> {
  const now = new Date();
  const stores = createStores({ knex } as Database, () => {});
  for (const id of services) {
    const service = { id, name: id, audience: `https://${id}.example.com`, scopes: ['read', 'write'] };
    await stores.services.insert({ ...service, status: 'active', createdAt: now });
  }
  const organizations = Array.from({ length: sizes.otherOrganizations + 1 }, () => uuidv7());
  await knex.raw(
    `INSERT INTO organizations (id, name, created_at)
     SELECT id, 'Organization ' || n, ? FROM unnest(?::uuid[]) WITH ORDINALITY AS o (id, n)`,
    [now, organizations],
  );
  const [organizationId = '', ...others] = organizations;
  const members = await addMembers(organizationId, sizes.members);
  const [adminId = '', memberId = '', colleagueId = ''] = members;
  await stores.memberships.put(organizationId, adminId, 'admin', now);

  await addTokens(organizationId, [memberId], sizes.gathered);
  await addTokens(
    organizationId,
    members.filter((id) => id !== memberId),
    sizes.tokens - sizes.gathered,
  );
  for (const other of others) {
    const otherMembers = await addMembers(other, sizes.otherMembers);
    await addTokens(other, otherMembers, sizes.otherTokens / others.length);
  }
  const active = knex('platform_tokens').where('user_id', memberId).whereNull('revoked_at');
  const { id: tokenId } = await active.orderBy('created_at', 'desc').first('id');
  await knex('platform_tokens').where('id', tokenId).update('name', uniqueName);
  // Two of three, up to two years after they were made.
  await knex.raw(
    `UPDATE platform_token_uses u SET last_used_at = LEAST(?::timestamptz, t.created_at + hashed.n % 700 * interval '1 day')
     FROM platform_tokens t, LATERAL (SELECT abs(hashtext(t.name)) AS n) AS hashed WHERE t.id = u.token_id AND hashed.n % 3 > 0`,
    [now],
  );
  await addEvents(tokenId);
  // What autovacuum and the checkpointer would do some time in the middle of the run.
  await knex.raw('VACUUM ANALYZE');
  await knex.raw('CHECKPOINT');
  return { organizationId, adminId, memberId, colleagueId, tokenId };

  async function addMembers(to: string, count: number): Promise<string[]> {
    const ids = Array.from({ length: count }, () => uuidv7());
    await knex.raw(
      `INSERT INTO users (id, email, name, kind, created_at)
       SELECT id, 'person' || n || '.' || id || '@example.com', 'Person ' || n, 'person', ?
       FROM unnest(?::uuid[]) WITH ORDINALITY AS u (id, n)`,
      [now, ids],
    );
    await knex.raw(
      `INSERT INTO memberships (organization_id, user_id, role, created_at)
       SELECT ?, id, 'member', ?::timestamptz - n * interval '1 minute'
       FROM unnest(?::uuid[]) WITH ORDINALITY AS u (id, n)`,
      [to, now, ids],
    );
    return ids;
  }

  /** Spread over three years, so that a third has expired. A third is revoked; of a single owner all but 20 at most are one or the other. */
  async function addTokens(to: string, owners: readonly string[], count: number): Promise<void> {
    await knex.raw(
      `INSERT INTO platform_tokens (id, organization_id, user_id, service_id, name, digest, hint, scopes, created_at,
         expires_at, revoked_at, revoked_by)
       SELECT gen_random_uuid(), :to, (:owners::uuid[])[1 + n % :people], (:services::text[])[1 + n % :kinds],
         (ARRAY['Deploy', 'CI', 'Import', 'My laptop'])[1 + n / 3 % 4] || ' ' || n, sha256(((:owners::uuid[])[1]::text || n)::bytea), 'ptk_abcd',
         '{read,write}', at, at + :lifetime * interval '1 second',
         CASE WHEN revoked THEN :now::timestamptz END, CASE WHEN revoked THEN 'bench' END
       FROM generate_series(1, :count) AS n,
         LATERAL (SELECT :now::timestamptz - (n * 7919 % 1095) * interval '1 day' - n * interval '1 second' AS at) AS c,
         LATERAL (SELECT CASE WHEN :people > 1 THEN n % 3 = 0
           ELSE n > 20 AND (n % 4 = 0 OR at + :lifetime * interval '1 second' > :now) END AS revoked) AS r`,
      {
        to,
        owners: [...owners],
        people: owners.length,
        services,
        kinds: services.length,
        lifetime: policy.platformTokenLifetime,
        now,
        count,
      },
    );
  }

  async function addEvents(token: string): Promise<void> {
    await knex.raw(
      `INSERT INTO audit_events (id, at, action, actor_type, actor_id, organization_id, token_id, ip, user_agent)
       SELECT gen_random_uuid(), t.created_at, 'token.created', 'user', t.user_id, t.organization_id, t.id, '192.0.2.1', 'bench'
       FROM platform_tokens t`,
    );
    await knex.raw(
      `INSERT INTO exchange_events (id, at, organization_id, token_id, service_id, ip, user_agent)
       SELECT gen_random_uuid(), ?::timestamptz - n * interval '5 minutes', ?, ?, ?, '192.0.2.1', 'bench'
       FROM generate_series(1, ?) AS n`,
      [now, organizationId, token, services[0] as string, sizes.exchanges],
    );
    await knex.raw(
      `INSERT INTO exchange_events (id, at, organization_id, token_id, service_id, ip, user_agent)
       SELECT gen_random_uuid(), ?::timestamptz - n * interval '1 minute', t.organization_id, t.id, t.service_id, '192.0.2.1',
         'bench'
       FROM generate_series(1, ?) AS n
       JOIN (SELECT id, organization_id, service_id, row_number() OVER (ORDER BY digest) - 1 AS k FROM platform_tokens) AS t
         ON t.k = n % ?`,
      [now, sizes.otherExchanges, sizes.tokens + sizes.otherTokens],
    );
    // Into partitions, as a server that has run for a year has them.
    await stores.auditTrail.deleteExpired();
  }
}
