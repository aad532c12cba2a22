import { afterEach, beforeEach, expect, it } from 'vitest';
import { readConfig } from '../config/env.ts';
import { createFirstStart } from '../server/first-start.ts';
import { createStores } from '../server/storage/stores.ts';
import { createTestDatabase } from './support/harness.ts';

let test: Awaited<ReturnType<typeof createTestDatabase>>;
beforeEach(async () => {
  test = await createTestDatabase();
});
afterEach(() => test.drop());

const firstStart = (env: NodeJS.ProcessEnv = {}) => {
  const { database } = test;
  const stores = createStores(database, () => {});
  return createFirstStart({ config: readConfig(env), database, stores, clock: () => new Date() });
};

/** Every INSERT into the table fails, until the returned function is called. */
async function refuseInserts(table: string): Promise<() => Promise<void>> {
  const { knex } = test.database;
  await knex.raw(
    `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$`,
  );
  await knex.raw(`CREATE TRIGGER refuse BEFORE INSERT ON ${table} EXECUTE FUNCTION refuse()`);
  return async () => {
    await knex.raw('DROP FUNCTION refuse CASCADE');
  };
}

it.each(['clients', 'organizations', 'platform_tokens', 'audit_events'])(
  'makes no secret that it cannot show: all of them again after %s failed',
  async (table) => {
    const allow = await refuseInserts(table);
    await expect(firstStart()).rejects.toThrow('refused');
    await allow();
    expect(await firstStart()).toEqual({
      administered: true,
      adminSecret: expect.any(String),
      demonstration: expect.stringMatching(/password \S{16}\n.*\n.*subject_token=ptk_/),
      otherSecret: false,
    });
    expect(await firstStart()).toEqual({ administered: true, otherSecret: false });
  },
);
