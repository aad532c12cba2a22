import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createDatabase } from '../server/storage/database.ts';
import { createStores } from '../server/storage/stores.ts';
import { eventWriters, sealWritten } from './support/audit.ts';
import { createTestDatabase } from './support/harness.ts';
import { createProcesses, type Processes, stop } from './support/processes.ts';

let processes: Processes;
let direct: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  processes = await createProcesses();
  direct = await createTestDatabase();
});
afterAll(async () => {
  await processes.close();
  await direct.drop();
});

/** `npm run audit:verify`, which needs the database's address and nothing else. */
async function verify(...args: string[]) {
  const { child, output } = processes.launch({ DATABASE_URL: direct.url }, [
    'server/audit-verify.ts',
    ...args,
  ]);
  return { code: (await once(child, 'close'))[0], output: output() };
}

it('says that the trail is whole, and which change is the first', async () => {
  expect(await verify()).toEqual({
    code: 0,
    output: expect.stringMatching(/^The audit trail is whole\.\n(.*\n)*head {6}none\n$/),
  });
  const database = createDatabase({ connectionString: direct.url });
  const stores = createStores(database, () => {});
  await eventWriters(stores).audit([new Date(), new Date()]);
  const [sealed] = await sealWritten(database, stores);
  await eventWriters(stores).exchange([new Date()]);
  const whole = await verify('--head', String(sealed?.hash));
  expect(whole.code).toBe(0);
  expect(whole.output).toContain('verified  2 events in 1 batches');
  expect(whole.output).toContain('unsealed  1 events');
  expect(whole.output).toContain(`head      1 ${sealed?.hash}`);
  expect(await verify('--head', 'ab'.repeat(32))).toEqual({
    code: 1,
    output: expect.stringMatching(/^The audit trail was changed: no batch has the hash (ab){32}/),
  });
  expect(await verify('--head', 'head')).toEqual({
    code: 1,
    output: expect.stringMatching(/^--head takes a hash/),
  });
  await database.knex.raw(
    "ALTER TABLE audit_events DISABLE TRIGGER USER; UPDATE audit_events SET reason = 'x'",
  );
  expect(await verify()).toEqual({
    code: 1,
    output: expect.stringMatching(
      /^The audit trail was changed: batch 1 \(audit_events, [\d-]+\): an event was changed\.\n/,
    ),
  });
  await stores.usage.close();
  await database.close();
}, 60_000);

it('cannot say anything of a database that is not there', async () => {
  const { child, output } = processes.launch({ DATABASE_URL: 'postgres://x@127.0.0.1:1/x' }, [
    'server/audit-verify.ts',
  ]);
  expect((await once(child, 'close'))[0]).toBe(1);
  expect(output()).toMatch(/^the database of DATABASE_URL cannot be used: /);
});

it('makes no database where there is none', async () => {
  const dataDir = join(processes.dataDir, 'mistyped');
  const { child, output } = processes.launch({ DATA_DIR: dataDir }, ['server/audit-verify.ts']);
  expect((await once(child, 'close'))[0]).toBe(1);
  expect(output()).toBe(`there is no database in ${dataDir}: set DATABASE_URL, or DATA_DIR\n`);
  await expect(stat(dataDir)).rejects.toThrow('ENOENT');
});

it('says that the schema is behind', async () => {
  const other = await createTestDatabase();
  await other.database.knex.migrate.down();
  const { child, output } = processes.launch({ DATABASE_URL: other.url }, ['server/audit-verify.ts']);
  expect((await once(child, 'close'))[0]).toBe(1);
  expect(output()).toBe('the database schema is behind: run "npm run migrate"\n');
  await other.drop();
});

it('finds the trail of the embedded database, sealed at the start of the server, each batch with a line in the log', async () => {
  const first = await processes.start({ WORKERS: '2' });
  expect(await stop(first)).toBe(0);
  const second = await processes.start();
  await expect.poll(second.output, { timeout: 75_000 }).toContain('audit batch sealed');
  const line = second
    .output()
    .split('\n')
    .find((one) => one.includes('audit batch sealed'));
  const { seq, hash } = JSON.parse(String(line));
  expect(seq).toBe(1);
  expect(await stop(second)).toBe(0);
  const { child, output } = processes.launch({}, ['server/audit-verify.ts', '--head', hash]);
  expect([(await once(child, 'close'))[0], output()]).toEqual([
    0,
    expect.stringContaining(`head      1 ${hash}`),
  ]);
}, 90_000);
