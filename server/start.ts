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
import { systemEvent } from './storage/audit-events.ts';
import { listenTo } from './storage/notifications.ts';
import { signingKeysChannel } from './storage/signing-keys.ts';

/** All in one process. */
export async function startServer(config: Config, deps: StartDeps): Promise<RunningServer> {
  const dashboard = await readDashboard();
  // The port before anything is made: what a first start makes is shown once, and must not be made in vain.
  const listener = await openListener(config);
  let base: Base | undefined;
  const release = async () => {
    await base?.close();
  };
  try {
    base = await openBase(config, deps);
    const service = openService(config, { ...deps, ...base, dashboard, listener });
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
  readonly logger: Logger;
  readonly clock?: () => Date;
}

/** Serves, with what each process that serves has for itself. */
export function openService(
  config: Config,
  { connectionString, listener, databaseClock, clock = databaseClock.now, ...deps }: ServiceDeps,
): { close(): Promise<void> } {
  const { keyRing, stores, logger } = deps;
  let stopping = false;
  const app = createApp({ ...deps, config, clock, stopping: () => stopping });
  const keyWatch = watchKeys({
    keyRing,
    refreshInterval: policy.keyRefreshInterval,
    listen: (onChange) => listenTo({ connectionString, channel: signingKeysChannel }, onChange),
    record: ({ kid }, transaction) => {
      const rotated = { at: clock(), action: 'signing_key.rotated', targetId: kid };
      return stores.auditEvents.insert([systemEvent('key-rotation', rotated)], transaction);
    },
    onError: (err) => logger.error({ err }, 'the signing keys could not be read'),
  });
  const overload = watchOverload({
    path: new URL(config.issuer).pathname.replace(/\/$/, ''),
    logger,
    waitMs: stores.platformTokens.lookupWaitMs,
  });
  listener.handle(overload.guard(app.callback()));
  return {
    async close() {
      // Readiness says so first; what is on its way is still served.
      stopping = true;
      await setTimeout(policy.drainDelayMs);
      await listener.drain();
      overload.close();
      await keyWatch.close();
    },
  };
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
