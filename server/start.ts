import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from '../config/env.ts';
import { policy } from '../config/policy.ts';
import { createApp } from './app.ts';
import { createAdminClient, createDemonstration } from './first-start.ts';
import { createSealer } from './keys/sealing.ts';
import { loadKeySet } from './keys/signing-keys.ts';
import { readOrCreateKeyEncryptionKey } from './secrets.ts';
import { createDatabase, type Database } from './storage/database.ts';
import { startEmbedded } from './storage/embedded.ts';
import { migrate, pendingMigrations } from './storage/migrations.ts';
import { createStores } from './storage/stores.ts';

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
  const embedded = config.databaseUrl
    ? undefined
    : await startEmbedded({
        dataDir: config.dataDir,
        onLost,
        log: (message, details) => logger.info({ ...details }, message),
      });
  const database = createDatabase({
    connectionString: config.databaseUrl ?? String(embedded?.connectionString),
  });
  const stores = createStores(database, (err, waiting, dropped) =>
    logger.error({ err, waiting, dropped }, 'exchanges could not be recorded yet'),
  );
  const release = async () => {
    await stores.usage.close();
    await database.close();
    await embedded?.stop();
  };

  try {
    await prepareSchema(config, database);
    const deps = { config, database, stores, clock };
    const demonstration = embedded ? await createDemonstration(deps) : undefined;
    const adminSecret = await createAdminClient(deps);
    const keys =
      config.keyEncryptionKeys.length > 0
        ? config.keyEncryptionKeys
        : [await readOrCreateKeyEncryptionKey(config.dataDir)];
    const sealer = createSealer(keys);
    const keySet = await loadKeySet({
      signingKeys: stores.signingKeys,
      sealer,
      alg: config.signingAlg,
      clock,
    });

    let stopping = false;
    const app = createApp({
      config,
      database,
      stores,
      sealer,
      keySet,
      logger,
      clock,
      stopping: () => stopping,
    });
    const server = createServer(app.callback());
    // Slow clients are cut: RFC 9110 leaves it to the server.
    server.headersTimeout = 10_000;
    server.requestTimeout = 30_000;
    await listen(server, config);
    const sweep = setInterval(() => {
      stores.artifacts.deleteExpired(clock()).catch((err) => logger.error({ err }, 'sweep failed'));
    }, sweepIntervalMs).unref();

    return {
      port: (server.address() as AddressInfo).port,
      banner: banner(config, demonstration, adminSecret),
      async close() {
        stopping = true;
        // Readiness says so first; what is on its way is still served.
        await setTimeout(policy.drainDelayMs);
        clearInterval(sweep);
        await drain(server);
        await release();
      },
    };
  } catch (error) {
    await release();
    throw error;
  }
}

async function prepareSchema(config: Config, { knex }: Database): Promise<void> {
  if (!config.databaseUrl || config.migrateOnStart) return migrate(knex);
  const pending = await pendingMigrations(knex);
  if (pending.length > 0) {
    throw new StartError(
      `the database schema is behind by ${pending.length} migration(s), from ${pending[0]}: run "npm run migrate", or set MIGRATE_ON_START=true`,
    );
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

function banner(config: Config, demonstration: string | undefined, adminSecret: string | undefined): string {
  return [
    '',
    `Platform Tokens  ${config.issuer}`,
    ...(adminSecret ? [`Admin client  ${config.adminClientId}  secret ${adminSecret}`] : []),
    ...(demonstration ? [demonstration, 'These secrets are shown this once.'] : []),
    '',
  ].join('\n');
}
