import { fileURLToPath } from 'node:url';
import type { Knex } from 'knex';

/** Shared by the server, `npm run migrate` and Knex's own command line. The server adds the connection. */
const config: Knex.Config = {
  client: 'pg',
  migrations: {
    directory: fileURLToPath(new URL('./migrations', import.meta.url)),
    loadExtensions: ['.ts'],
    tableName: 'knex_migrations',
    // A newer release may have migrated already; see server/storage/migrations.ts.
    disableMigrationsListValidation: true,
  },
};

export default config;
