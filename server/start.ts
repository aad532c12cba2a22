import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import type { Config } from '../config/env.ts';
import { policy } from '../config/policy.ts';
import { demonstration as seeds } from '../seeds/demonstration.ts';
import { createApp } from './app.ts';
import { createKeyTimes } from './domain/key-schedule.ts';
import { createFirstStart, type FirstStart } from './first-start.ts';
import { type Dashboard, loadDashboard } from './http/dashboard.ts';
import { createKeyRing } from './keys/key-ring.ts';
import { watchKeys } from './keys/key-watch.ts';
import { createSealer } from './keys/sealing.ts';
import { readOrCreateKeyEncryptionKey } from './secrets.ts';
import { systemEvent } from './storage/audit-events.ts';
import { createDatabase, type Database, verifyUsable } from './storage/database.ts';
import { type EmbeddedPostgres, startEmbedded } from './storage/embedded.ts';
import { migrate, pendingMigrations } from './storage/migrations.ts';
import { listenTo } from './storage/notifications.ts';
import { signingKeysChannel } from './storage/signing-keys.ts';
import { createStores, type Stores } from './storage/stores.ts';

/** The server cannot start for a reason that an operator can mend; the message says how. */
export class StartError extends Error {}

export interface RunningServer {
  readonly port: number;
  /** What to tell the person at the terminal. */
  readonly banner: string;
  /** Finishes what is in flight, writes what waits, then lets go of the database. */
  close(): Promise<void>;
}

const drainLimitMs = 20_000;
const sweepIntervalMs = 10 * 60 * 1000;

export async function startServer(
  config: Config,
  {
    logger,
    clock = () => new Date(),
    onLost,
  }: { logger: Logger; clock?: () => Date; onLost: (error: Error) => void },
): Promise<RunningServer> {
  const dashboard = await readDashboard();
  // The port before anything is made: what a first start makes is shown once, and must not be made in vain.
  let handle: RequestListener = notReady;
  const server = createServer((request, response) => handle(request, response));
  // Slow clients are cut: RFC 9110 leaves it to the server.
  server.headersTimeout = 10_000;
  server.requestTimeout = 30_000;
  await listen(server, config);

  let embedded: EmbeddedPostgres | undefined;
  let database: Database | undefined;
  let stores: Stores | undefined;
  let keyWatch: ReturnType<typeof watchKeys> | undefined;
  const release = async () => {
    await drain(server);
    await keyWatch?.close();
    await stores?.usage.close();
    await database?.close();
    await embedded?.stop();
  };
  try {
    if (!config.databaseUrl) {
      const log = (message: string, details?: object) => logger.info({ ...details }, message);
      embedded = await startEmbedded({ dataDir: config.dataDir, onLost, log });
    }
    const connectionString = config.databaseUrl ?? String(embedded?.connectionString);
    database = createDatabase({ connectionString });
    stores = createStores(database, (err, waiting, dropped) =>
      logger.error({ err, waiting, dropped }, 'exchanges could not be recorded'),
    );

    if (config.databaseUrl) await verifyUsable(database);
    await prepareSchema(config, database, connectionString);
    await refuseDevelopmentSeeds(config, stores);
    const sealer = createSealer(await keyEncryptionKeys(config, stores));
    const { artifacts, auditEvents, exchangeEvents, leakReports, rateLimits, retention, signingKeys } =
      stores;
    const keyRing = await createKeyRing({
      signingKeys,
      sealer,
      alg: config.signingAlg,
      times: createKeyTimes(config.keyRotationDays),
      clock,
    });
    keyWatch = watchKeys({
      keyRing,
      refreshInterval: policy.keyRefreshInterval,
      listen: (onChange) => listenTo({ connectionString, channel: signingKeysChannel }, onChange),
      record: ({ kid }, transaction) => {
        const rotated = { at: clock(), action: 'signing_key.rotated', targetId: kid };
        return auditEvents.insert([systemEvent('key-rotation', rotated)], transaction);
      },
      onError: (err) => logger.error({ err }, 'the signing keys could not be read'),
    });
    let stopping = false;
    const app = createApp({
      config,
      database,
      stores,
      sealer,
      keyRing,
      dashboard,
      logger,
      clock,
      stopping: () => stopping,
    });
    const sweep = setInterval(() => {
      for (const { deleteExpired } of [
        artifacts,
        exchangeEvents,
        leakReports,
        rateLimits,
        retention,
        signingKeys,
      ])
        deleteExpired(clock()).catch((err) => logger.error({ err }, 'sweep failed'));
    }, sweepIntervalMs).unref();

    const firstStart = await createFirstStart({ config, database, stores, clock });
    if (!firstStart.administered) {
      logger.warn('there is no machine administrator: set ADMIN_CLIENT_SECRET and start again');
    }
    handle = app.callback();
    return {
      port: (server.address() as AddressInfo).port,
      banner: banner(config, firstStart),
      async close() {
        stopping = true;
        // Readiness says so first; what is on its way is still served.
        await setTimeout(policy.drainDelayMs);
        clearInterval(sweep);
        await release();
      },
    };
  } catch (error) {
    await release();
    throw error;
  }
}

async function readDashboard(): Promise<Dashboard> {
  try {
    return await loadDashboard(fileURLToPath(new URL('../dashboard/dist/', import.meta.url)));
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const reason = code === 'ENOENT' ? 'is not built: run "npm run build"' : `cannot be read: ${message}`;
    throw new StartError(`the dashboard ${reason}`, { cause });
  }
}

/** While the server comes up. */
function notReady(request: IncomingMessage, response: ServerResponse): void {
  request.resume();
  response.writeHead(503, { 'Content-Type': 'application/json', 'Retry-After': String(policy.retryAfter) });
  response.end('{"status":"unavailable","reasons":["starting"]}');
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
  } finally {
    await unlimited.close();
  }
}

function listen(server: Server, { port, host }: Config): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const reason = cause.code === 'EADDRINUSE' ? 'the port is taken' : cause.message;
      reject(new StartError(`cannot listen on ${host}:${port}: ${reason}`, { cause }));
    });
    server.listen(port, host, resolve);
  });
}

/** Takes no new connection, closes idle ones, and waits for the requests in flight. */
function drain(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const limit = globalThis.setTimeout(() => server.closeAllConnections(), drainLimitMs);
    server.close(() => {
      clearTimeout(limit);
      resolve();
    });
    server.closeIdleConnections();
  });
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
