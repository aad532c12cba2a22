import type { Middleware } from 'koa';

/** OWASP ASVS 5 §3.4, for answers that are data; pages add their own Content-Security-Policy. */
export function securityFields(deps: { readonly tls: boolean }): readonly (readonly [string, string])[] {
  return [
    ['X-Content-Type-Options', 'nosniff'],
    ['Referrer-Policy', 'no-referrer'],
    ['Cross-Origin-Opener-Policy', 'same-origin'],
    ['Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'"],
    ...(deps.tls ? [['Strict-Transport-Security', 'max-age=63072000; includeSubDomains'] as const] : []),
  ];
}

export function securityHeaders(deps: { readonly tls: boolean }): Middleware {
  const fields = securityFields(deps);
  return ({ res }, next) => {
    for (const [name, value] of fields) res.setHeader(name, value);
    return next();
  };
}
