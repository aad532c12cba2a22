import type { Logger } from 'pino';
import type { Config } from '../config/env.ts';
import { policy } from '../config/policy.ts';
import { demonstration as seeds } from '../seeds/demonstration.ts';
import { type AuditSealer, startAuditSealer } from './audit-sealer.ts';
import { createKeyTimes } from './domain/key-schedule.ts';
import { createFirstStart, type FirstStart } from './first-start.ts';
import { createKeyRing, type KeyRing } from './keys/key-ring.ts';
import { createSealer, type Sealer } from './keys/sealing.ts';
import { StartError } from './listener.ts';
import type { Metrics } from './metrics/metrics.ts';
import { readOrCreateKeyEncryptionKey } from './secrets.ts';
import { createDatabase, type Database, type PoolSizes, verifyUsable } from './storage/database.ts';
import { createDatabaseClock, type DatabaseClock } from './storage/database-clock.ts';
import { type EmbeddedPostgres, startEmbedded } from './storage/embedded.ts';
import { migrate, pendingMigrations } from './storage/migrations.ts';
import { createStores, type Stores } from './storage/stores.ts';
import { keepUp, type Upkeep } from './upkeep.ts';

export interface RunningServer {
  readonly port: number;
  /** What to tell the person at the terminal. */
  readonly banner: string;
  /** Finishes what is in flight, writes what waits, then lets go of the database. */
  close(): Promise<void>;
}

export interface StartDeps {
  readonly logger: Logger;
  readonly clock?: () => Date;
  /** The embedded database has ended, and could not be brought back. */
  readonly onLost: (error: Error) => void;
}

/** What an instance has once, however many processes serve for it. */
export interface Base extends Connections, Keys {
  readonly banner: string;
}

/** The database, its schema, the first start, and what is swept: all but serving. */
export async function openBase(
  config: Config,
  { logger, metrics, clock: given, onLost }: StartDeps & { readonly metrics: Metrics },
  sizes?: PoolSizes,
): Promise<Base> {
  let embedded: EmbeddedPostgres | undefined;
  let connections: Connections | undefined;
  let upkeep: Upkeep | undefined;
  let sealer: AuditSealer | undefined;
  const close = async () => {
    upkeep?.close();
    await sealer?.close();
    await connections?.close();
    await embedded?.stop();
  };
  try {
    if (!config.databaseUrl) {
      const log = (message: string, details?: object) => logger.info({ ...details }, message);
      embedded = await startEmbedded({ dataDir: config.dataDir, onLost, log });
    }
    connections = connect(config.databaseUrl ?? String(embedded?.connectionString), {
      logger,
      metrics,
      sizes,
    });
    const { database, stores, connectionString } = connections;
    if (config.databaseUrl) await verifyUsable(database);
    await connections.databaseClock.measure();
    const clock = given ?? connections.databaseClock.now;
    await prepareSchema(config, database, connectionString);
    await refuseDevelopmentSeeds(config, stores);
    const keys = await openKeys(config, stores, clock);

    sealer = await startAuditSealer({
      auditTrail: stores.auditTrail,
      logger,
      onSealed: metrics.upkeep.sealed,
      clock,
    });
    const firstStart = await createFirstStart({ config, database, stores, clock });
    if (!firstStart.administered) {
      logger.warn('there is no machine administrator: set ADMIN_CLIENT_SECRET and start again');
    }
    if (firstStart.otherSecret) {
      logger.warn(
        { client_id: config.adminClientId },
        'ADMIN_CLIENT_SECRET is not the secret of this client: it is read where there is no such client; POST /admin/clients/{client_id}/rotate-secret makes another one',
      );
    }
    upkeep = keepUp({ stores, logger, metrics: metrics.upkeep, clock });
    return { ...connections, ...keys, banner: banner(config, firstStart), close };
  } catch (error) {
    await close();
    throw error;
  }
}

export interface Connections {
  readonly connectionString: string;
  readonly database: Database;
  readonly stores: Stores;
  /** Measured first by whoever opens the connections: until then it is this process's clock. */
  readonly databaseClock: DatabaseClock;
  /** Writes what waits, then lets go of the database. */
  close(): Promise<void>;
}

/** Opens none by itself: the first query does. */
export function connect(
  connectionString: string,
  {
    logger,
    metrics,
    sizes,
  }: { readonly logger: Logger; readonly metrics: Metrics; readonly sizes?: PoolSizes | undefined },
): Connections {
  const database = createDatabase({
    connectionString,
    ...sizes,
    watch: metrics.database,
    onError: (err) => logger.error({ err }, 'a transaction was left open'),
  });
  const stores = createStores(database, (err, waiting, dropped) =>
    logger.error({ err, waiting, dropped }, 'exchanges or counted events could not be recorded'),
  );
  metrics.database.watchPools(database.pools);
  metrics.upkeep.watchRecorder('exchanges', stores.usage.state);
  metrics.upkeep.watchRecorder('counted_events', stores.countedEvents.state);
  const databaseClock = createDatabaseClock(database, (offsetMs) => {
    if (Math.abs(offsetMs) > policy.clockSkew * 1000)
      logger.warn({ offset_ms: offsetMs }, "this machine's clock is not the database's, which is gone by");
  });
  return {
    connectionString,
    database,
    stores,
    databaseClock,
    async close() {
      databaseClock.close();
      await stores.usage.close();
      await stores.countedEvents.close();
      await database.close();
    },
  };
}

export interface Keys {
  readonly sealer: Sealer;
  readonly keyRing: KeyRing;
}

export async function openKeys(config: Config, stores: Stores, clock: () => Date): Promise<Keys> {
  const sealer = createSealer(await keyEncryptionKeys(config, stores));
  const keyRing = await createKeyRing({
    signingKeys: stores.signingKeys,
    sealer,
    alg: config.signingAlg,
    times: createKeyTimes(config.keyRotationDays),
    clock,
  });
  return { sealer, keyRing };
}

async function keyEncryptionKeys(config: Config, { signingKeys }: Stores): Promise<readonly Buffer[]> {
  if (config.keyEncryptionKeys.length > 0) return config.keyEncryptionKeys;
  const signingKeyIds = async () => (await signingKeys.list()).map(({ kid }) => kid);
  return [await readOrCreateKeyEncryptionKey({ dataDir: config.dataDir, signingKeyIds })];
}

async function refuseDevelopmentSeeds(config: Config, { organizations }: Stores): Promise<void> {
  if (config.production && (await organizations.find(seeds.organizationId))) {
    throw new StartError('the database of DATABASE_URL holds the demonstration seeds: not in production');
  }
}

async function prepareSchema(config: Config, { knex }: Database, connectionString: string): Promise<void> {
  const pending = await pendingMigrations(knex);
  if (pending.length === 0) return;
  if (config.databaseUrl && !config.migrateOnStart) {
    throw new StartError(
      `the database schema is behind by ${pending.length} migration(s), from ${pending[0]}: run "npm run migrate", or set MIGRATE_ON_START=true`,
    );
  }
  const unlimited = createDatabase({ connectionString, limited: false });
  try {
    await migrate(unlimited.knex);
  } catch (cause) {
    throw new StartError(`the schema could not be migrated: ${(cause as Error).message}`, { cause });
  } finally {
    await unlimited.close();
  }
}

function banner(config: Config, { adminSecret, demonstration }: FirstStart): string {
  return [
    '',
    `Dashboard  ${config.issuer}/dashboard`,
    `Issuer     ${config.issuer}`,
    ...(adminSecret ? [`Admin      client ${config.adminClientId}  secret ${adminSecret}`] : []),
    ...(demonstration ? [demonstration] : []),
    ...(demonstration || adminSecret ? ['These secrets are shown this once.'] : []),
    '',
  ].join('\n');
}
