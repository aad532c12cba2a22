import { type BinarySearch, findBinaries } from './binaries.ts';
import { clusterMajor, createCluster, removeUnfinished } from './cluster.ts';
import { type Context, databaseName, type Patience, superuser } from './context.ts';
import { DatabaseLock } from './database-lock.ts';
import { loadPassword, preparePlace } from './directories.ts';
import { asEmbeddedError, EmbeddedPostgresError, failed } from './error.ts';
import { freePort, LaunchError, launch, type Postmaster } from './postmaster.ts';
import { clearTheWay } from './predecessor.ts';
import { pause } from './processes.ts';
import { inUse, withStartLock } from './start-lock.ts';
import type { EmbeddedOptions, EmbeddedPostgres } from './types.ts';

const othersStart = 150_000;
const busyPatience = 15_000;
const portAttempts = 5;
const defaultPatience: Patience = { answer: 20_000, recovery: 30_000 };

/** For tests. */
export interface Internals {
  readonly search?: BinarySearch;
  readonly patience?: Partial<Patience>;
}

export async function openEmbedded(
  options: EmbeddedOptions,
  internals: Internals = {},
): Promise<EmbeddedPostgres> {
  const stopping = new AbortController();
  try {
    const context = await prepare(options, stopping.signal, internals);
    return await withStartLock(context, othersStart, async () => {
      const password = await prepareCluster(context);
      const postmaster = await start(context, password);
      try {
        const lock = await acquireLock(context, postmaster.port, password);
        await lock.createDatabase();
        return new EmbeddedServer({ context, stopping, password, postmaster, lock, onLost: options.onLost });
      } catch (error) {
        await postmaster.stop();
        throw error;
      }
    });
  } catch (error) {
    throw asEmbeddedError(error);
  }
}

async function prepare(
  options: EmbeddedOptions,
  signal: AbortSignal,
  internals: Internals,
): Promise<Context> {
  const log = options.log ?? (() => {});
  const place = await preparePlace(options.dataDir, log);
  const major = await clusterMajor(place.cluster);
  const binaries = await findBinaries(
    { user: place.user, major, beside: place.dataDir, log },
    internals.search,
  );
  const patience = { ...defaultPatience, ...internals.patience };
  return { ...place, binaries, patience, settings: options.settings ?? {}, log, signal };
}

/** @returns the password */
async function prepareCluster(context: Context): Promise<string> {
  const exists = (await clusterMajor(context.cluster)) !== undefined;
  const password = await loadPassword(context, exists);
  await removeUnfinished(context.cluster);
  if (!exists) {
    context.log('creating the database', { directory: context.cluster });
    await createCluster(context, password);
  }
  return password;
}

/** Without a port: on any free one. Waits for what a killed server's PostgreSQL leaves behind for a moment. */
async function start(context: Context, password: string, port?: number): Promise<Postmaster> {
  const deadline = Date.now() + busyPatience;
  let portsLeft = port === undefined ? portAttempts : 1;
  for (;;) {
    await clearTheWay(context, password);
    try {
      return await launch(context, port ?? (await freePort()));
    } catch (error) {
      if (!(error instanceof LaunchError)) throw error;
      if (error.failure === 'port') portsLeft -= 1;
      const again =
        error.failure === 'busy' ? Date.now() < deadline : error.failure === 'port' && portsLeft > 0;
      if (!again) throw failed(error.message, error);
      await pause(250, context.signal);
    }
  }
}

async function acquireLock(context: Context, port: number, password: string): Promise<DatabaseLock> {
  const lock = await DatabaseLock.connect(port, password);
  try {
    if (await lock.tryAcquire()) return lock;
    throw inUse(context.dataDir);
  } catch (error) {
    lock.close();
    throw error;
  }
}

interface Parts {
  readonly context: Context;
  readonly stopping: AbortController;
  readonly password: string;
  readonly postmaster: Postmaster;
  readonly lock: DatabaseLock;
  readonly onLost: ((error: Error) => void) | undefined;
}

/** The running PostgreSQL: whatever ends without being told to is brought back on the same port. */
class EmbeddedServer implements EmbeddedPostgres {
  readonly connectionString: string;
  readonly #parts: Parts;
  #postmaster: Postmaster;
  #lock: DatabaseLock;
  #recovering: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  #lost = false;

  constructor(parts: Parts) {
    const { password, postmaster, lock } = parts;
    this.connectionString = `postgres://${superuser}:${password}@127.0.0.1:${postmaster.port}/${databaseName}`;
    this.#parts = parts;
    this.#postmaster = postmaster;
    this.#lock = lock;
    this.#watchPostmaster();
    this.#watchLock();
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  /** The lock goes last: until then, nobody takes this PostgreSQL for an orphan. */
  async #stop(): Promise<void> {
    this.#parts.stopping.abort();
    await this.#recovering;
    await this.#postmaster.stop();
    this.#lock.close();
  }

  #watchPostmaster(): void {
    void this.#postmaster.exited.then(() => this.#recover('PostgreSQL ended by itself'));
  }

  #watchLock(): void {
    this.#lock.hold(() => this.#recover('the connection that holds the lock is gone'));
  }

  get #healthy(): boolean {
    return this.#postmaster.running && !this.#lock.ended;
  }

  get #over(): boolean {
    return this.#parts.context.signal.aborted || this.#lost;
  }

  #recover(reason: string): void {
    if (this.#over || this.#recovering || this.#healthy) return;
    this.#parts.context.log(`${reason}; bringing it back`);
    this.#recovering = this.#bringBack().finally(() => {
      this.#recovering = undefined;
      this.#recover('PostgreSQL ended again');
    });
  }

  async #bringBack(): Promise<void> {
    const deadline = Date.now() + this.#parts.context.patience.recovery;
    while (!this.#over && !this.#healthy) {
      try {
        await this.#attempt();
      } catch (error) {
        const taken = error instanceof EmbeddedPostgresError && error.code === 'in_use';
        if (taken || Date.now() > deadline) this.#giveUp(error);
        else await pause(250, this.#parts.context.signal).catch(() => {});
      }
    }
    if (!this.#over) this.#parts.context.log('PostgreSQL is back', { port: this.#postmaster.port });
  }

  async #attempt(): Promise<void> {
    const { context, password } = this.#parts;
    if (!this.#postmaster.running) {
      const { port } = this.#postmaster;
      this.#postmaster = await withStartLock(context, context.patience.recovery, () =>
        start(context, password, port),
      );
      this.#watchPostmaster();
    }
    if (!this.#lock.ended) return;
    this.#lock = await acquireLock(context, this.#postmaster.port, password);
    this.#watchLock();
  }

  #giveUp(error: unknown): void {
    if (this.#over) return;
    this.#lost = true;
    this.#parts.onLost?.(asEmbeddedError(error));
  }
}
