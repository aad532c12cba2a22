import { readConfig } from '../config/env.ts';
import { seed } from '../seeds/demonstration.ts';
import { createDatabase, verifyUsable } from './storage/database.ts';
import { startEmbedded } from './storage/embedded.ts';
import { migrate } from './storage/migrations.ts';

/** `npm run migrate`, and with `--seed` `npm run seed`. */
async function main(): Promise<void> {
  const config = readConfig(process.env);
  const seeding = process.argv.includes('--seed');
  if (seeding && config.production) throw new Error('the demonstration seeds are refused in production');
  const embedded = config.databaseUrl ? undefined : await startEmbedded({ dataDir: config.dataDir });
  const database = createDatabase({
    connectionString: config.databaseUrl ?? String(embedded?.connectionString),
    limited: false,
  });
  try {
    if (config.databaseUrl) await verifyUsable(database);
    await migrate(database.knex);
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
