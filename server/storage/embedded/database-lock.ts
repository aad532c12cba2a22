import pg from 'pg';
import { databaseName, superuser } from './context.ts';
import { pause } from './processes.ts';

/** Any pair of numbers, the same in every version: "platform tokens", "one server per data directory". */
const lockKey = [0x70746f6b, 1];

/** A killed server's session ends a moment after the server. */
const sessionsLinger = 2_000;

/**
 * The session whose advisory lock says that a server is using this database. In the database `postgres`, as
 * advisory locks count per database and ours may not be there yet.
 */
export class DatabaseLock {
  readonly #client: pg.Client;
  #onEnd: (() => void) | undefined;
  #ended = false;

  private constructor(client: pg.Client) {
    this.#client = client;
    // Without a listener, the server's end would end this process too.
    client.on('error', () => this.#end());
    client.on('end', () => this.#end());
  }

  static async connect(port: number, password: string): Promise<DatabaseLock> {
    const client = new pg.Client({
      host: '127.0.0.1',
      port,
      user: superuser,
      password,
      database: 'postgres',
      ssl: false,
      application_name: 'platform-tokens lock',
      connectionTimeoutMillis: 5_000,
    });
    const lock = new DatabaseLock(client);
    try {
      await client.connect();
    } catch (error) {
      lock.close();
      throw error;
    }
    return lock;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** @returns false when another session holds it and goes on holding it */
  async tryAcquire(): Promise<boolean> {
    const deadline = Date.now() + sessionsLinger;
    for (;;) {
      const { rows } = await this.#client.query<{ got: boolean }>(
        'SELECT pg_try_advisory_lock($1::int4, $2::int4) AS got',
        lockKey,
      );
      if (rows[0]?.got) return true;
      if (Date.now() > deadline) return false;
      await pause(100);
    }
  }

  async createDatabase(): Promise<void> {
    const { rowCount } = await this.#client.query('SELECT 1 FROM pg_database WHERE datname = $1', [
      databaseName,
    ]);
    if (!rowCount) await this.#client.query(`CREATE DATABASE ${databaseName}`);
  }

  /** From now on the session is only held: it keeps no process alive, and its end is told. */
  hold(onEnd: () => void): void {
    (this.#client as pg.Client & { unref(): void }).unref();
    if (this.#ended) onEnd();
    else this.#onEnd = onEnd;
  }

  close(): void {
    this.#onEnd = undefined;
    this.#ended = true;
    this.#client.end().catch(() => {});
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#client.end().catch(() => {});
    this.#onEnd?.();
  }
}
