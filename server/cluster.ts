import type { DestinationStream } from 'pino';
import type { Config } from '../config/env.ts';
import { type Base, openBase, type RunningServer, type StartDeps } from './start.ts';
import { poolSizes } from './storage/database.ts';
import { openWorkers } from './workers.ts';

export interface ClusterDeps extends StartDeps {
  /** Takes the lines of all processes, so that none is written into another. */
  readonly output: DestinationStream;
  /** Workers end as soon as they are started. */
  readonly onGivenUp: (error: Error) => void;
}

/** Several processes on one port: this one does what is done once, its workers serve. */
export async function startCluster(config: Config, deps: ClusterDeps): Promise<RunningServer> {
  const workers = await openWorkers({ ...deps, count: config.workers });
  let base: Base | undefined;
  const close = async () => {
    try {
      await workers.close();
    } finally {
      await base?.close();
    }
  };
  try {
    base = await openBase(config, deps, poolSizes.primary);
    await workers.serve(base.connectionString);
    return { port: workers.port, banner: base.banner, close };
  } catch (error) {
    await close();
    throw error;
  }
}
