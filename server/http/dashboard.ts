import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import type Router from '@koa/router';
import type { Context } from 'koa';
import { etagOf } from './documents.ts';
import { createRouter } from './router.ts';

/** The built dashboard, in memory: a page and its files. */
export interface Dashboard {
  readonly page: string;
  readonly files: ReadonlyMap<string, File>;
}

interface File {
  readonly type: string;
  readonly etag: string;
  /** By content coding (RFC 9110 §8.4.1). */
  readonly bodies: Readonly<Record<'identity' | 'gzip' | 'br', Buffer>>;
}

const types: Record<string, string> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** @param directory what `npm run build` made; @throws ENOENT where it did not */
export async function loadDashboard(directory: string): Promise<Dashboard> {
  const page = await readFile(join(directory, 'index.html'), 'utf8');
  const files = new Map<string, File>();
  for (const entry of await readdir(directory, { recursive: true })) {
    const type = types[extname(entry)];
    if (!type) continue;
    const read = (suffix = '') => readFile(join(directory, entry + suffix));
    const [identity, gzip, br] = await Promise.all([read(), read('.gz'), read('.br')]);
    const etag = etagOf(identity);
    files.set(entry.replaceAll('\\', '/'), { type, etag, bodies: { identity, gzip, br } });
  }
  return { page, files };
}

/** The page at every path below `/dashboard`, its files beside it, and the way from `/`. */
export function dashboardRoutes({ page, files }: Dashboard, issuer: string): Router {
  const base = `${new URL(issuer).pathname.replace(/\/$/, '')}/dashboard`;
  const template = page
    .replaceAll('{{base}}', escapeAttribute(`${base}/`))
    .replaceAll('{{issuer}}', escapeAttribute(issuer));
  const router = createRouter();

  router.get('/', (ctx) => ctx.redirect(base));
  router.get('/dashboard/', (ctx) => ctx.redirect(base));
  router.get('/dashboard/assets/:file', (ctx) => {
    const file = files.get(`assets/${ctx.params.file}`);
    // Named by their content: what is there never changes (RFC 8246).
    if (file) writeFile(ctx, file, 'public, max-age=31536000, immutable');
  });
  router.get('/dashboard/icon.svg', (ctx) => {
    const file = files.get('icon.svg');
    if (file) writeFile(ctx, file, 'public, max-age=3600');
  });
  router.get(['/dashboard', '/dashboard/{*view}'], (ctx) => {
    ctx.state.route = '/dashboard/:view';
    writePage(ctx, template);
  });
  return router;
}

function writePage(ctx: Context, template: string): void {
  const nonce = randomBytes(16).toString('base64url');
  ctx.set({
    // Of this one answer, as its nonce is.
    'Cache-Control': 'no-store',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Permissions-Policy': 'camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()',
    // OWASP ASVS 5 §3.4.3: files of this origin, and the style elements that the page's library makes, by the nonce.
    'Content-Security-Policy': [
      "default-src 'none'",
      "script-src 'self'",
      `style-src 'self' 'nonce-${nonce}'`,
      "img-src 'self'",
      "connect-src 'self'",
      "form-action 'none'",
      "base-uri 'self'",
      "frame-ancestors 'none'",
    ].join('; '),
  });
  ctx.type = 'html';
  ctx.body = template.replaceAll('{{nonce}}', nonce);
}

function writeFile(ctx: Context, { type, etag, bodies }: File, caching: string): void {
  ctx.set({ 'Cache-Control': caching, ETag: etag, 'Cross-Origin-Resource-Policy': 'same-origin' });
  ctx.vary('Accept-Encoding');
  ctx.status = 200;
  if (ctx.fresh) {
    ctx.status = 304;
    return;
  }
  const coding = ctx.acceptsEncodings('br', 'gzip', 'identity');
  if (coding === 'br' || coding === 'gzip') ctx.set('Content-Encoding', coding);
  ctx.type = type;
  ctx.body = bodies[coding === 'br' || coding === 'gzip' ? coding : 'identity'];
}

function escapeAttribute(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;');
}
