import type { RunUser } from './run-user.ts';
import type { Binaries, Log } from './types.ts';

export const superuser = 'platform_tokens';
export const databaseName = 'platform_tokens';

/** In milliseconds. */
export interface Patience {
  /** With a PostgreSQL that is alive and does not answer: it may be starting, recovering or shutting down. */
  readonly answer: number;
  /** With our own PostgreSQL that has ended, until it counts as lost. */
  readonly recovery: number;
}

/** What every step of a start works on. All paths are real paths: PostgreSQL is recognised by them. */
export interface Context {
  /** DATA_DIR: the password and the log are here. */
  readonly dataDir: string;
  /** PostgreSQL's data directory: `DATA_DIR/postgres`, or where that link leads. */
  readonly cluster: string;
  readonly user: RunUser | undefined;
  readonly binaries: Binaries;
  readonly patience: Patience;
  readonly settings: Readonly<Record<string, string>>;
  readonly log: Log;
  /** Aborted when the server is told to stop: every wait below ends then. */
  readonly signal: AbortSignal;
}
