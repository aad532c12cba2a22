export type EmbeddedPostgresErrorCode = 'in_use' | 'no_binaries' | 'failed';

/** Why the embedded PostgreSQL is not there, written for the person who started the server. */
export class EmbeddedPostgresError extends Error {
  readonly code: EmbeddedPostgresErrorCode;
  constructor(code: EmbeddedPostgresErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'EmbeddedPostgresError';
    this.code = code;
  }
}

export function failed(message: string, cause?: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError('failed', message, cause === undefined ? undefined : { cause });
}

/** Every error that leaves this part has its type: a bare `EACCES` says nothing about which feature broke. */
export function asEmbeddedError(error: unknown): EmbeddedPostgresError {
  if (error instanceof EmbeddedPostgresError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return failed(`the embedded PostgreSQL could not be started: ${message}`, error);
}

export function errorCode(error: unknown): string | undefined {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' ? code : undefined;
}

/** The value, or undefined where the file, directory or program is not there. */
export async function ifPresent<T>(value: Promise<T>): Promise<T | undefined> {
  try {
    return await value;
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}
