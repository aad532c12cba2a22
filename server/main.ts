import { ConfigError, readConfig } from '../config/env.ts';
import { createLogger } from './http/logger.ts';
import { SigningKeyError } from './keys/signing-keys.ts';
import { StartError } from './listener.ts';
import { SecretsError } from './secrets.ts';
import { startServer } from './start.ts';
import { DatabaseUnusableError } from './storage/database.ts';
import { EmbeddedPostgresError } from './storage/embedded.ts';

const expected = [
  ConfigError,
  StartError,
  SecretsError,
  SigningKeyError,
  DatabaseUnusableError,
  EmbeddedPostgresError,
];

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const logger = createLogger(config.logLevel);
  const server = await startServer(config, {
    logger,
    onLost(err) {
      logger.fatal({ err }, 'the embedded database is lost');
      process.exit(1);
    },
  });
  process.stdout.write(`${server.banner}\n`);
  logger.info({ port: server.port, issuer: config.issuer }, 'ready');

  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (stopping) return;
      stopping = true;
      logger.info({ signal }, 'stopping');
      server.close().then(
        () => process.exit(0),
        (err) => {
          logger.fatal({ err }, 'stopping failed');
          process.exit(1);
        },
      );
    });
  }
}

main().catch((error: unknown) => {
  const known = expected.some((kind) => error instanceof kind);
  process.stderr.write(`${known ? (error as Error).message : (error as Error).stack}\n`);
  process.exit(1);
});
