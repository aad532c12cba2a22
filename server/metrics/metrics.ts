import { packageVersion } from '../version.ts';
import { createDatabaseMetrics } from './database.ts';
import { createExchangeMetrics } from './exchange.ts';
import { createHttpMetrics } from './http.ts';
import { createKeyMetrics } from './keys.ts';
import { watchProcess } from './process.ts';
import { createRegistry, type Family } from './registry.ts';
import { createUpkeepMetrics } from './upkeep.ts';
import { createWorkerMetrics } from './workers.ts';

export type Metrics = ReturnType<typeof createMetrics>;

/** What a process counts, for `GET /metrics`. Labels are few and known: never an id, an address or a caller's words. */
export function createMetrics() {
  const registry = createRegistry();
  registry.gauge(
    { name: 'platform_tokens_build_info', help: 'Always 1.', labels: ['version', 'node'] },
    'max',
  )(packageVersion(), process.versions.node).value = 1;
  const limited = registry.counter({
    name: 'platform_tokens_limited_total',
    help: 'Requests that were refused by a limit.',
    labels: ['limit'],
  });
  const signIns = registry.counter({
    name: 'platform_tokens_sign_ins_total',
    help: 'Sign-in forms by outcome.',
    labels: ['outcome'],
  });
  for (const outcome of ['signed_in', 'wrong_credentials', 'limited']) signIns(outcome);
  const stopWatchingProcess = watchProcess(registry);
  return {
    http: createHttpMetrics(registry),
    exchange: createExchangeMetrics(registry),
    database: createDatabaseMetrics(registry),
    keys: createKeyMetrics(registry),
    upkeep: createUpkeepMetrics(registry),
    workers: createWorkerMetrics(registry),
    /** @param name of the limit, out of the configuration */
    onLimited: (name: string): void => {
      limited(name).value += 1;
    },
    onSignIn: (outcome: 'signed_in' | 'wrong_credentials' | 'limited'): void => {
      signIns(outcome).value += 1;
    },
    read: (): Family[] => registry.read(),
    close: stopWatchingProcess,
  };
}
