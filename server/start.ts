import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import type { Config } from '../config/env.ts';
import { policy } from '../config/policy.ts';
import { createApp } from './app.ts';
import {
  type Base,
  type Connections,
  type Keys,
  openBase,
  type RunningServer,
  type StartDeps,
} from './base.ts';
import { type Dashboard, loadDashboard } from './http/dashboard.ts';
import { watchOverload } from './http/overload.ts';
import { watchKeys } from './keys/key-watch.ts';
import { type Listener, openListener, StartError } from './listener.ts';
import { createMetrics, type Metrics } from './metrics/metrics.ts';
import type { Family } from './metrics/registry.ts';
import { systemEvent } from './storage/audit-events.ts';
import { listenTo } from './storage/notifications.ts';
import { signingKeysChannel } from './storage/signing-keys.ts';
import type { Tracing } from './tracing/index.ts';

/** All in one process. */
export async function startServer(config: Config, deps: StartDeps): Promise<RunningServer> {
  const dashboard = await readDashboard();
  // The port before anything is made: what a first start makes is shown once, and must not be made in vain.
  const listener = await openListener(config);
  const metrics = createMetrics();
  metrics.workers.started();
  metrics.workers.present({ wanted: 1, running: 1, silent: 0 });
  let base: Base | undefined;
  const release = async () => {
    await base?.close();
    metrics.close();
  };
  try {
    base = await openBase(config, { ...deps, metrics });
    const readMetrics = async () => metrics.read();
    const tracing = await loadTracing(config, deps.logger);
    const service = openService(config, {
      ...deps,
      ...base,
      metrics,
      readMetrics,
      tracing,
      dashboard,
      listener,
    });
    return {
      port: listener.port,
      banner: base.banner,
      async close() {
        await service.close();
        await release();
      },
    };
  } catch (error) {
    await listener.drain();
    await release();
    throw error;
  }
}

export interface ServiceDeps extends Connections, Keys {
  readonly dashboard: Dashboard;
  readonly listener: Listener;
  readonly metrics: Metrics;
  readonly readMetrics: () => Promise<readonly Family[]>;
  readonly tracing?: Tracing | undefined;
  readonly logger: Logger;
  readonly clock?: () => Date;
}

/** Serves, with what each process that serves has for itself. */
export function openService(
  config: Config,
  { connectionString, listener, databaseClock, clock = databaseClock.now, ...deps }: ServiceDeps,
): { close(): Promise<void> } {
  const { database, keyRing, stores, logger, metrics } = deps;
  const stopWatching = watchService({ database, keyRing, listener, metrics, clock });
  let stopping = false;
  const app = createApp({ ...deps, config, clock, stopping: () => stopping });
  const keyWatch = watchKeys({
    keyRing,
    refreshInterval: policy.keyRefreshInterval,
    listen: (onChange) =>
      listenTo(
        { connectionString, channel: signingKeysChannel, onState: metrics.database.listening },
        onChange,
      ),
    record: ({ kid }, transaction) => {
      const rotated = { at: clock(), action: 'signing_key.rotated', targetId: kid };
      return stores.auditEvents.insert([systemEvent('key-rotation', rotated)], transaction);
    },
    onError: (err) => {
      metrics.keys.failed();
      logger.error({ err }, 'the signing keys could not be read');
    },
  });
  const issuer = new URL(config.issuer);
  const overload = watchOverload({
    path: issuer.pathname.replace(/\/$/, ''),
    tls: issuer.protocol === 'https:',
    logger,
    waitMs: stores.platformTokens.lookupWaitMs,
  });
  metrics.http.watchOverload(overload);
  listener.handle(overload.guard(app.callback()));
  return {
    async close() {
      // Readiness says so first; what is on its way is still served.
      stopping = true;
      await setTimeout(config.shutdownDelay * 1000);
      // Without a delay nothing in front asks for readiness, and sends on meanwhile.
      await listener.drain(config.shutdownDelay === 0 ? 0 : policy.idleGraceMs);
      overload.close();
      await keyWatch.close();
      await deps.tracing?.close();
      stopWatching();
    },
  };
}

/** Only where an endpoint is configured: what is not loaded costs nothing. */
export async function loadTracing({ tracing }: Config, logger: Logger): Promise<Tracing | undefined> {
  if (!tracing) return undefined;
  const { openTracing } = await import('./tracing/index.ts');
  return openTracing(tracing, logger);
}

/** What is looked at when the metrics are read, and whether the database answers. @returns what stops it */
function watchService({
  database,
  keyRing,
  listener,
  metrics,
  clock,
}: Pick<ServiceDeps, 'database' | 'keyRing' | 'listener' | 'metrics'> & { readonly clock: () => Date }) {
  metrics.http.watchConnections(() => listener.connections());
  metrics.keys.watch(keyRing.state, clock);
  const probe = async () => metrics.database.probed((await database.faults()).length === 0);
  const timer = setInterval(probe, policy.databaseProbeIntervalMs).unref();
  void probe();
  return () => clearInterval(timer);
}

export async function readDashboard(): Promise<Dashboard> {
  try {
    return await loadDashboard(fileURLToPath(new URL('../dashboard/dist/', import.meta.url)));
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const reason = code === 'ENOENT' ? 'is not built: run "npm run build"' : `cannot be read: ${message}`;
    throw new StartError(`the dashboard ${reason}`, { cause });
  }
}
