import type { Knex } from 'knex';

/** Shared by the server, `npm run migrate` and Knex's own command line. The server adds the connection. */
const config: Knex.Config = {
  client: 'pg',
  migrations: {
    directory: new URL('./migrations', import.meta.url).pathname,
    loadExtensions: ['.ts'],
    tableName: 'knex_migrations',
  },
};

export default config;
