import cluster, { type Worker } from 'node:cluster';
import type { Config } from '../config/env.ts';
import { connect, openKeys } from './base.ts';
import { describeFailure } from './failure.ts';
import { joinGathering } from './gathering.ts';
import { createLogger, standardOutput } from './http/logger.ts';
import { openListener } from './listener.ts';
import { createMetrics } from './metrics/metrics.ts';
import { loadTracing, openService, readDashboard } from './start.ts';
import { poolSizes } from './storage/database.ts';
import { endOnStrayError } from './stray-errors.ts';
import type { Order, Report } from './worker-messages.ts';

/** A process that serves beside others: serves when its primary says that all is prepared. */
export async function runWorker(config: Config): Promise<void> {
  const worker = cluster.worker as Worker;
  const logger = createLogger(config.logLevel, standardOutput(), worker.id);
  // A terminal and most service managers signal all processes at once: the primary says when it is a worker's turn.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => {});
  const tell = (report: Report) => new Promise((resolve) => worker.send(report, resolve));
  const fail = async (error: unknown) => {
    await tell({ type: 'failed', reason: describeFailure(error) });
    process.exit(1);
  };

  let close: (() => Promise<void>) | undefined;
  let stopping = false;
  const stop = (status = 0) => {
    if (stopping) return;
    stopping = true;
    if (!close) process.exit(status);
    close().then(
      () => process.exit(status),
      (err) => {
        logger.fatal({ err }, 'stopping failed');
        process.exit(1);
      },
    );
  };
  worker.on('disconnect', () => {
    // The primary is gone. Node.js would end this process at once, and with it what is in flight.
    worker.exitedAfterDisconnect = true;
    stop();
  });

  try {
    const dashboard = await readDashboard();
    const metrics = createMetrics();
    const readMetrics = joinGathering(worker, metrics.read);
    const served = new Promise<string>((resolve) => {
      worker.on('message', (order: Order) => {
        if (order.type === 'stop') stop();
        if (order.type === 'serve') resolve(order.connectionString);
      });
    });
    // The first one before anything is made, as one process does.
    const early = worker.id === 1 ? await openListener(config) : undefined;
    await tell({ type: 'waiting', port: early?.port });
    const connections = connect(await served, { logger, metrics, sizes: poolSizes(config.workers) });
    await connections.databaseClock.measure();
    const keys = await openKeys(config, connections.stores, connections.databaseClock.now);
    const listener = early ?? (await openListener(config));
    const tracing = await loadTracing(config, logger);
    const service = openService(config, {
      ...connections,
      ...keys,
      metrics,
      readMetrics,
      tracing,
      dashboard,
      logger,
      listener,
    });
    close = async () => {
      await service.close();
      await connections.close();
      metrics.close();
    };
    endOnStrayError(logger, stop);
    await tell({ type: 'serving' });
  } catch (error) {
    await fail(error);
  }
}
