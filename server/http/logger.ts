import pino, { type Logger } from 'pino';

/**
 * JSON lines on standard output. Lines leave together: 8 KiB of them, or what there is after a fifth of a second, at
 * once for `fatal`, and at the process's end. Only a `kill -9` loses some.
 */
export function createLogger(level: string): Logger {
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 1, sync: false, minLength: 8192, periodicFlush: 200 }),
  );
}
