import type { DestinationStream } from 'pino';
import type { Config } from '../config/env.ts';
import type { Base, RunningServer, StartDeps } from './base.ts';
import { createMetrics } from './metrics/metrics.ts';
import { openWorkers } from './workers.ts';

export interface ClusterDeps extends StartDeps {
  /** Takes the lines of all processes, so that none is written into another. */
  readonly output: DestinationStream;
  /** Workers end as soon as they are started. */
  readonly onGivenUp: (error: Error) => void;
}

/** Of a process that serves nothing: migrations, the first start, sweeps. */
const primaryPools = { poolSize: 5, lookupPoolSize: 1 };

/** Several processes on one port: this one does what is done once, its workers serve. */
export async function startCluster(config: Config, deps: ClusterDeps): Promise<RunningServer> {
  const metrics = createMetrics();
  // The first worker loads its modules while this process loads its own.
  const opening = openWorkers({ ...deps, metrics, count: config.workers });
  const [workers, { openBase }] = await Promise.all([opening, import('./base.ts')]);
  let base: Base | undefined;
  const close = async () => {
    try {
      await workers.close();
    } finally {
      await base?.close();
      metrics.close();
    }
  };
  try {
    base = await openBase(config, { ...deps, metrics }, primaryPools);
    await workers.serve(base.connectionString);
    return { port: workers.port, banner: base.banner, close };
  } catch (error) {
    await close();
    throw error;
  }
}
