import { ConfigError } from '../config/env.ts';
import { SigningKeyError } from './keys/signing-keys.ts';
import { StartError } from './listener.ts';
import { SecretsError } from './secrets.ts';
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

/** What to print where a start fails: of what an operator can mend the message, of everything else the stack. */
export function describeFailure(error: unknown): string {
  const known = expected.some((kind) => error instanceof kind);
  return String(known ? (error as Error).message : (error as Error).stack);
}
