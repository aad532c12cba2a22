import { randomBytes } from 'node:crypto';
import { inject } from 'vitest';
import { createDatabase } from '../../server/storage/database.ts';
import { withDatabase } from './global-setup.ts';

/**
 * A database of one's own in the run's PostgreSQL: empty, or a copy of the migrated template.
 *
 * To make or drop one is to wait for checkpoints, for which the time that a request has is no measure.
 */
export async function createOwnDatabase({
  migrated = false,
}: {
  migrated?: boolean;
} = {}): Promise<{ url: string; drop: () => Promise<void> }> {
  const rootUrl = inject('databaseUrl');
  const name = `test_${randomBytes(8).toString('hex')}`;
  const administer = async (statement: string) => {
    const root = createDatabase({ connectionString: rootUrl, poolSize: 1, limited: false });
    try {
      await root.knex.raw(statement);
    } finally {
      await root.close();
    }
  };
  await administer(`CREATE DATABASE ${name}${migrated ? ' TEMPLATE template STRATEGY FILE_COPY' : ''}`);
  return {
    url: withDatabase(rootUrl, name),
    drop: () => administer(`DROP DATABASE ${name} WITH (FORCE)`),
  };
}
