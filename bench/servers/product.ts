import { readConfig } from '../../config/env.ts';
import { createLogger } from '../../server/http/logger.ts';
import { startServer } from '../../server/start.ts';
import { runCandidate } from './candidate.ts';

/** Our server as server/main.ts runs it: configuration from the environment, the same logger on stdout (a file here). */
await runCandidate(() => {
  const config = readConfig(process.env);
  const logger = createLogger(config.logLevel);
  return startServer(config, { logger, onLost: () => process.exit(1) });
});
