import { openEmbedded } from './embedded/server.ts';
import type { EmbeddedOptions, EmbeddedPostgres } from './embedded/types.ts';

export { EmbeddedPostgresError } from './embedded/error.ts';
export type { EmbeddedOptions, EmbeddedPostgres } from './embedded/types.ts';

/**
 * Starts PostgreSQL on `dataDir`, making the database where there is none.
 * @throws EmbeddedPostgresError: `in_use`, `no_binaries` or `failed`, with a message for a human
 */
export function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  return openEmbedded(options);
}
