import { execFileSync } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { createDatabase } from '../../server/storage/database.ts';
import { startEmbedded } from '../../server/storage/embedded.ts';
import { grantTo } from '../../server/storage/grants.ts';
import { migrate } from '../../server/storage/migrations.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The run's PostgreSQL, whose database `template` is migrated and empty. */
    databaseUrl: string;
  }
}

/** The role that serves, in the tests' PostgreSQL: what it may not do, the server does not do in any test. */
export const servingRole = 'serving';

/** One real PostgreSQL a run, with a migrated template that each test file copies. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // Builds the dashboard where it is not built.
  execFileSync(process.execPath, ['dashboard/build.ts'], { stdio: 'inherit' });
  const dataDir = await mkdtemp(join(tmpdir(), 'platform-tokens-test-'));
  await chmod(dataDir, 0o755);
  const settings = {
    fsync: 'off',
    synchronous_commit: 'off',
    full_page_writes: 'off',
    max_connections: '300',
  };
  const embedded = await startEmbedded({ dataDir: join(dataDir, 'data'), settings });
  const root = createDatabase({ connectionString: embedded.connectionString });
  await root.knex.raw('CREATE DATABASE template');
  const template = createDatabase({ connectionString: withDatabase(embedded.connectionString, 'template') });
  await migrate(template.knex);
  // Whoever copies the template copies what the role may do in it.
  await template.knex.raw(`CREATE ROLE ${servingRole} LOGIN PASSWORD '${servingRole}'`);
  await grantTo(template.knex, servingRole);
  // Before anything copies the template: PostgreSQL refuses while it is being accessed.
  await template.close();
  await root.close();
  project.provide('databaseUrl', embedded.connectionString);
  return async () => {
    await embedded.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
}

export function withDatabase(connectionString: string, name: string): string {
  const url = new URL(connectionString);
  url.pathname = `/${name}`;
  return url.href;
}

/** The same database for the role that serves. */
export function asServing(connectionString: string): string {
  const url = new URL(connectionString);
  url.username = servingRole;
  url.password = servingRole;
  return url.href;
}
