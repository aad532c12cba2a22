import cluster from 'node:cluster';
import { readConfig } from '../config/env.ts';
import type { RunningServer } from './base.ts';
import { createLogger, standardOutput } from './http/logger.ts';
import { endOnStrayError } from './stray-errors.ts';

// Each process loads what it runs, and no more: a primary has its first worker started before anything else.
async function main(): Promise<void> {
  const config = readConfig(process.env);
  if (cluster.isWorker) {
    const { runWorker } = await import('./worker.ts');
    return runWorker(config);
  }
  const output = standardOutput();
  const logger = createLogger(config.logLevel, output);
  const onLost = (err: Error) => {
    logger.fatal({ err }, 'the embedded database is lost');
    process.exit(1);
  };
  let server: RunningServer;
  let stopping = false;
  const stop = (status: number) => {
    if (stopping) return;
    stopping = true;
    server.close().then(
      () => process.exit(status),
      (err) => {
        logger.fatal({ err }, 'stopping failed');
        process.exit(1);
      },
    );
  };
  const onGivenUp = (err: Error) => {
    logger.fatal({ err }, 'stopping: no worker stays up');
    stop(1);
  };
  if (config.workers === 1) {
    const { startServer } = await import('./start.ts');
    server = await startServer(config, { logger, onLost });
  } else {
    const { startCluster } = await import('./cluster.ts');
    server = await startCluster(config, { logger, onLost, output, onGivenUp });
  }
  endOnStrayError(logger, stop);
  process.stdout.write(`${server.banner}\n`);
  logger.info({ port: server.port, issuer: config.issuer }, 'ready');

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (!stopping) logger.info({ signal }, 'stopping');
      stop(0);
    });
  }
}

main().catch(async (error: unknown) => {
  const { describeFailure } = await import('./failure.ts');
  process.stderr.write(`${describeFailure(error)}\n`);
  process.exit(1);
});
