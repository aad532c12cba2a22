import { createHash } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { policy } from '../../config/policy.ts';
import type { Database } from '../../server/storage/database.ts';
import { deletions } from '../../server/storage/retention.ts';
import { createStores, type Stores } from '../../server/storage/stores.ts';
import { createTestDatabase } from '../support/harness.ts';

let database: Database;
let stores: Stores;
let drop: () => Promise<void>;
const now = new Date('2040-01-01T00:00:00Z');
const day = 24 * 60 * 60 * 1000;
const kept = policy.endedTokenRetention * 1000;
const digestOf = (name: string) => createHash('sha256').update(name).digest();
const [organizationId, userId] = [uuidv7(), uuidv7()];

beforeAll(async () => {
  ({ database, drop } = await createTestDatabase());
  stores = createStores(database, () => {});
  await stores.organizations.insert({ id: organizationId, name: 'O', status: 'active', createdAt: now });
  await database.knex.raw(
    `INSERT INTO users VALUES (?, 'a@example.com', 'A', 'person', NULL, 'active', now());`,
    [userId],
  );
  await database.knex.raw(`INSERT INTO memberships VALUES (?, ?, 'member', now())`, [organizationId, userId]);
  await database.knex.raw(
    `INSERT INTO services VALUES ('tms', 'TMS', 'https://tms', '{read}', 'active', now())`,
  );
});
afterEach(() => database.knex('platform_tokens').delete());
afterAll(() => drop());

/** Tokens `name 1` to `name count`. */
async function make(name: string, expiresAt: Date, revokedAt: Date | null = null, count = 1): Promise<void> {
  await database.knex.raw(
    `INSERT INTO platform_tokens (id, organization_id, user_id, service_id, name, digest, hint, scopes, created_at, expires_at,
       revoked_at, revoked_by)
     SELECT gen_random_uuid(), :organizationId, :userId, 'tms', :name || n, sha256((:name || n)::bytea), 'ptk_abcd', '{read}',
       :expiresAt::timestamptz - interval '730 days', :expiresAt, :revokedAt::timestamptz,
       CASE WHEN :revokedAt::timestamptz IS NULL THEN NULL ELSE 'test' END
     FROM generate_series(1, :count) AS n`,
    { organizationId, userId, name, expiresAt, revokedAt, count },
  );
}
const names = (): Promise<string[]> => database.knex('platform_tokens').orderBy('name').pluck('name');
const ago = (ms: number) => new Date(now.getTime() - ms);

it('deletes what ended 400 days ago, by expiry or revocation, and nothing else', async () => {
  await make('active', new Date(now.getTime() + day));
  await make('expired lately', ago(kept - 1));
  await make('expired', ago(kept));
  await make('revoked lately', new Date(now.getTime() + day), ago(kept - 1));
  await make('revoked', new Date(now.getTime() + day), ago(kept));
  await make('revoked after it expired', ago(kept), ago(day));
  await make('revoked lately and expired lately', ago(kept - 1), ago(day));
  const revoked = await database.knex('platform_tokens').where({ name: 'revoked1' }).first();
  await stores.auditEvents.insert([
    {
      id: uuidv7(),
      at: now,
      action: 'token.revoked',
      actor: { type: 'system', id: 'test' },
      organizationId,
      tokenId: revoked.id,
      targetId: null,
      ip: null,
      userAgent: null,
      requestId: null,
      reason: null,
    },
  ]);
  const list = async () => (await stores.statusLists.read(0, 1000)).invalid;
  expect(await list()).toContain(Number(revoked.status_index));
  expect(await stores.retention.deleteExpired(now)).toBe(3);
  expect(await names()).toEqual([
    'active1',
    'expired lately1',
    'revoked lately and expired lately1',
    'revoked lately1',
  ]);
  // Of a token that is gone the event stays, and the bit reads VALID: its JWTs expired long ago.
  const { data } = await stores.auditEvents.list({ all: true }, { tokenId: revoked.id }, { limit: 10 });
  expect(data).toMatchObject([{ action: 'token.revoked', tokenId: revoked.id }]);
  expect(await list()).not.toContain(Number(revoked.status_index));
});

it('deletes in batches until none is left, each token by one of several sweeps at once', async () => {
  await make('expired', ago(2 * kept), null, 700);
  await make('revoked', now, ago(2 * kept), 300);
  const counts = await Promise.all(Array.from({ length: 4 }, () => stores.retention.deleteExpired(now, 50)));
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(1000);
  expect(await names()).toEqual([]);
});

it('leaves the rest to the next sweep, and passes over what somebody holds', async () => {
  await make('expired', ago(2 * kept), null, policy.retentionBatchesASweep + 3);
  await make('held', ago(3 * kept));
  const holder = await database.knex.transaction();
  await holder('platform_tokens').where({ name: 'held1' }).forUpdate();
  expect(await stores.retention.deleteExpired(now, 1)).toBe(policy.retentionBatchesASweep);
  expect(await stores.retention.deleteExpired(now, 1)).toBe(3);
  expect(await names()).toEqual(['held1']);
  await holder.commit();
  expect(await stores.retention.deleteExpired(now, 1)).toBe(1);
}, 60_000);

it('holds up no look-up and no write of an exchange', async () => {
  await make('expired', ago(2 * kept), null, 1_000);
  await make('used', new Date(now.getTime() + day), null, 20);
  const used = await database.knex('platform_tokens').whereLike('name', 'used%').select('id', 'name');
  await database.knex.transaction(async (sweep) => {
    const { rowCount } = await sweep.raw(deletions[0], [ago(kept), 1_000]);
    expect(rowCount).toBe(1_000);
    // It is not committed: what waited for it would wait for ever.
    for (const { id, name } of used) {
      expect((await stores.platformTokens.findForExchange(digestOf(name)))?.id).toBe(id);
      await database.knex('platform_token_uses').where({ token_id: id }).update({ last_used_at: new Date() });
    }
  });
  for (const table of ['platform_tokens', 'platform_token_uses'])
    expect(await database.knex(table)).toHaveLength(used.length);
});
