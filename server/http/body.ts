import type { IncomingMessage } from 'node:http';

export class BodyTooLarge extends Error {}
export class BodyNotUtf8 extends Error {}

/**
 * The request's body as text.
 * @param limit in bytes; beyond it the rest is drained, so that the client gets to read the answer
 * @throws BodyTooLarge, BodyNotUtf8
 */
export async function readBody(request: IncomingMessage, limit: number): Promise<string> {
  if (Number(request.headers['content-length'] ?? 0) > limit) {
    request.resume();
    throw new BodyTooLarge();
  }
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    size += (chunk as Buffer).length;
    if (size > limit) {
      request.resume();
      throw new BodyTooLarge();
    }
    chunks.push(chunk as Buffer);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch (cause) {
    throw new BodyNotUtf8('the body is not UTF-8', { cause });
  }
}
