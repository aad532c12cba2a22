import type { Middleware } from 'koa';

/** OWASP ASVS 5 §3.4, for answers that are data; pages add their own Content-Security-Policy. */
export function securityHeaders(deps: { readonly tls: boolean }): Middleware {
  return async (ctx, next) => {
    ctx.set({
      'X-Content-Type-Options': 'nosniff',
      'Referrer-Policy': 'no-referrer',
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
    });
    if (deps.tls) ctx.set('Strict-Transport-Security', 'max-age=63072000; includeSubDomains');
    await next();
  };
}
