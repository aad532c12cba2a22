import { createHash } from 'node:crypto';
import type { Context } from 'koa';

/** A document answered from memory, with a strong entity tag and 304 (RFC 9110 §13.1.2). */
export interface Document {
  readonly body: string;
  readonly etag: string;
}

/** A strong entity tag. */
export const etagOf = (content: string | Buffer): string =>
  `"${createHash('sha256').update(content).digest('base64url')}"`;

export const documentOf = (body: string): Document => ({ body, etag: etagOf(body) });

export function writeDocument(ctx: Context, document: Document, type: string, maxAge: number): void {
  ctx.set({
    'Cache-Control': `public, max-age=${maxAge}`,
    ETag: document.etag,
    // Public by nature: product APIs' tools may read it from a browser.
    'Access-Control-Allow-Origin': '*',
  });
  ctx.status = 200;
  if (ctx.fresh) {
    ctx.status = 304;
    return;
  }
  ctx.type = type;
  ctx.body = document.body;
}
