import type { Logger } from 'pino';
import { policy } from '../config/policy.ts';

/**
 * An error that nobody caught: of what it has left behind nothing is known, so the process ends. What is in flight is
 * finished and what waits is written first, for other requests have no part in it.
 */
export function endOnStrayError(logger: Pick<Logger, 'fatal'>, stop: (status: number) => void): void {
  // Rejections that nobody handles come this way too.
  process.on('uncaughtException', (err, origin) => {
    logger.fatal({ err, origin }, 'stopping: an error was not caught');
    setTimeout(() => process.exit(1), policy.strayErrorLimitMs).unref();
    stop(1);
  });
}
