import { parseArgs } from 'node:util';
import { readDatabaseConfig } from '../config/env.ts';
import { seed } from '../seeds/demonstration.ts';
import { createDatabase, verifyUsable } from './storage/database.ts';
import { startEmbedded } from './storage/embedded.ts';
import { grantTo } from './storage/grants.ts';
import { migrate } from './storage/migrations.ts';

/** `npm run migrate`, with `--grant <role>` for the role that serves; and with `--seed` `npm run seed`. */
async function main(): Promise<void> {
  const config = readDatabaseConfig(process.env);
  const { values } = parseArgs({ options: { seed: { type: 'boolean' }, grant: { type: 'string' } } });
  const seeding = values.seed ?? false;
  if (seeding && config.production) throw new Error('the demonstration seeds are refused in production');
  const embedded = config.databaseUrl ? undefined : await startEmbedded({ dataDir: config.dataDir });
  const database = createDatabase({
    connectionString: config.databaseUrl ?? String(embedded?.connectionString),
    limited: false,
  });
  try {
    if (config.databaseUrl) await verifyUsable(database);
    await migrate(database.knex);
    if (values.grant !== undefined) await grantTo(database.knex, values.grant);
    if (seeding) await database.knex.transaction(seed);
    process.stdout.write(`${seeding ? 'migrated and seeded' : 'migrated'}\n`);
  } finally {
    await database.close();
    await embedded?.stop();
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(1);
});
