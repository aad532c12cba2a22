import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readDatabaseConfig } from '../config/env.ts';
import { type ChainReport, verifyChain } from './storage/audit-chain.ts';
import { createDatabase, verifyUsable } from './storage/database.ts';
import { startEmbedded } from './storage/embedded.ts';
import { pendingMigrations } from './storage/migrations.ts';

/** `npm run audit:verify`: exits 0 where the trail is whole and unchanged, 1 where it is not or cannot be read. */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: { head: { type: 'string' } } });
  if (values.head !== undefined && !/^[0-9a-f]{64}$/.test(values.head))
    throw new Error('--head takes a hash of 64 hexadecimal digits, as the log has it');
  const config = readDatabaseConfig(process.env);
  // Whoever verifies makes nothing, where the folder has another name say.
  if (!config.databaseUrl && !existsSync(join(config.dataDir, 'postgres')))
    throw new Error(`there is no database in ${config.dataDir}: set DATABASE_URL, or DATA_DIR`);
  const embedded = config.databaseUrl ? undefined : await startEmbedded({ dataDir: config.dataDir });
  const connectionString = config.databaseUrl ?? String(embedded?.connectionString);
  const database = createDatabase({ connectionString, poolSize: 1, limited: false });
  try {
    await verifyUsable(database);
    if ((await pendingMigrations(database.knex)).length > 0)
      throw new Error('the database schema is behind: run "npm run migrate"');
    const report = await verifyChain(database.knex, values.head);
    process.stdout.write(`${describe(report)}\n`);
    if (report.fault) process.exitCode = 1;
  } finally {
    await database.close();
    await embedded?.stop();
  }
}

function describe({ batches, events, retired, unsealed, head, fault }: ChainReport): string {
  return [
    fault ? `The audit trail was changed: ${fault}.` : 'The audit trail is whole.',
    `verified  ${events} events in ${batches} batches`,
    `retired   ${retired} batches of months that were dropped in their time`,
    `unsealed  ${unsealed} events`,
    `head      ${head ? `${head.seq} ${head.hash}` : 'none'}`,
  ].join('\n');
}

main().catch((error: unknown) => {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(1);
});
