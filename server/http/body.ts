import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';

/** The body cannot be read; the message says why, in words for the client. */
export class BodyError extends Error {
  readonly status: 400 | 413;
  constructor(status: 400 | 413, message: string) {
    super(message);
    this.name = 'BodyError';
    this.status = status;
  }
}

/**
 * The request's body as text.
 * @throws BodyError
 */
export async function readBody(request: IncomingMessage, limit: number): Promise<string> {
  const body = await readBytes(request, limit);
  if (!isUtf8(body)) throw new BodyError(400, 'The body is not UTF-8.');
  return body.toString();
}

/**
 * The request's body as it came.
 * @param limit in bytes; beyond it the rest is drained, so that the client gets to read the answer
 * @throws BodyError
 */
export async function readBytes(request: IncomingMessage, limit: number): Promise<Buffer> {
  if (Number(request.headers['content-length'] ?? 0) > limit) {
    request.resume();
    throw new BodyError(413, 'The body is too large.');
  }
  return readAll(request, limit);
}

/** Of a body, before they are put together. */
const chunksAtMost = 256;

/** By events: an iterator over the stream costs the token endpoint more than all its parsing. */
function readAll(request: IncomingMessage, limit: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let chunks: Buffer[] = [];
    let size = 0;
    const cut = () => {
      if (!request.readableEnded) reject(new BodyError(400, 'The body ended early.'));
    };
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > limit) reject(new BodyError(413, 'The body is too large.'));
      // Of a byte each, what keeps the chunks would be a hundred times what is in them.
      else if (chunks.push(chunk) === chunksAtMost) chunks = [Buffer.concat(chunks)];
    });
    request.on('end', () => resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)));
    request.on('error', cut);
    request.on('close', cut);
  });
}
