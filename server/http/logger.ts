import pino, { type DestinationStream, type Logger } from 'pino';
import { maskSecrets } from '../domain/redaction.ts';

/**
 * JSON lines, by default on standard output; with the worker's number where there are several. Lines leave together:
 * 32 KiB of them, or what there is after a fifth of a second, at once for `fatal`, and at the process's end. Only a
 * `kill -9` loses some.
 */
export function createLogger(
  level: string,
  destination: DestinationStream = standardOutput(),
  worker?: number,
): Logger {
  const base = worker === undefined ? null : { worker };
  return pino({ level, base, timestamp, serializers: { err: presentError } }, destination);
}

const present = { ms: 0, text: '' };

/** RFC 3339, in UTC. Written once a millisecond, in which a server under load logs several lines. */
function timestamp(): string {
  const ms = Date.now();
  if (ms !== present.ms) {
    present.ms = ms;
    present.text = `,"time":"${new Date(ms).toISOString()}"`;
  }
  return present.text;
}

/** As bytes: of text, the library counts all that waits anew at every line. */
export function standardOutput(): DestinationStream {
  const output = pino.destination({
    dest: 1,
    sync: false,
    minLength: 32_768,
    maxWrite: 65_536,
    periodicFlush: 200,
    contentMode: 'buffer',
  });
  return {
    write: (line: string) => void output.write(Buffer.from(line) as never),
    flushSync: () => output.flushSync(),
  } as DestinationStream;
}

/** Named members only: Node's and PostgreSQL's errors carry whole requests (`rawPacket`, `input`) and rows (`detail`). */
function presentError(error: unknown): unknown {
  if (!(error instanceof Error)) return { message: typeof error };
  const { code } = error as { code?: unknown };
  return {
    type: error.name,
    message: maskSecrets(error.message.slice(0, 4096)),
    ...(typeof code === 'string' ? { code } : {}),
    stack: maskSecrets((error.stack ?? '').slice(0, 8192)),
    ...(error.cause === undefined ? {} : { cause: presentError(error.cause) }),
  };
}
