import type { Middleware } from 'koa';

/** OWASP ASVS 5 §3.4, for answers that are data; pages add their own Content-Security-Policy. */
export function securityHeaders(deps: { readonly tls: boolean }): Middleware {
  return ({ res }, next) => {
    res.setHeader('X-Content-Type-Options', 'nosniff');
    res.setHeader('Referrer-Policy', 'no-referrer');
    res.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
    res.setHeader('Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'");
    if (deps.tls) res.setHeader('Strict-Transport-Security', 'max-age=63072000; includeSubDomains');
    return next();
  };
}
