import pino from 'pino';
import { readConfig } from '../../config/env.ts';
import { startServer } from '../../server/start.ts';
import { runCandidate } from './candidate.ts';

/** Our server as server/main.ts runs it: configuration from the environment, the same logger on stdout (a file here). */
await runCandidate(() => {
  const config = readConfig(process.env);
  const logger = pino({ level: config.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime });
  return startServer(config, { logger, onLost: () => process.exit(1) });
});
