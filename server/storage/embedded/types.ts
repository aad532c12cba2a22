/** A PostgreSQL of our own, for those who set no DATABASE_URL: nothing to install, nothing to configure. */
export interface EmbeddedPostgres {
  /** postgres:// URL with password, database `platform_tokens`, on 127.0.0.1 */
  readonly connectionString: string;
  /** Stops PostgreSQL (fast shutdown) and releases the directory. Idempotent. */
  stop(): Promise<void>;
}

export type Log = (message: string, details?: Record<string, unknown>) => void;

export interface EmbeddedOptions {
  /** absolute path; created with mode 0700 if absent */
  dataDir: string;
  /** extra -c settings, e.g. { fsync: 'off' } for tests */
  settings?: Record<string, string>;
  /** called once if PostgreSQL ends by itself and can't be brought back */
  onLost?: (error: Error) => void;
  /** structured log sink; never receives a password */
  log?: Log;
}

export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
  readonly major: number;
}
