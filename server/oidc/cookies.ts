import type { Context } from 'koa';
import { policy } from '../../config/policy.ts';

export interface KnownBrowser {
  readonly userId: string;
  readonly id: string;
}

/**
 * The cookies of the sign-in, by the issuer: with https they are Secure (the framework sees to it) and carry the prefix
 * that makes browsers insist on it (RFC 6265bis §4.1.3).
 */
export function cookiesFor(issuer: string) {
  const { protocol, pathname } = new URL(issuer);
  const tls = protocol === 'https:';
  const whole = (name: string) => (tls ? `${pathname === '/' ? '__Host-' : '__Secure-'}${name}` : name);
  const part = (name: string) => (tls ? `__Secure-${name}` : name);
  const options = { httpOnly: true, sameSite: 'lax', signed: true, overwrite: true } as const;
  const names = {
    session: whole('pt_session'),
    interaction: part('pt_interaction'),
    resume: part('pt_resume'),
    knownBrowser: whole('pt_known_browser'),
  };
  return {
    names,
    /** Sent to the whole issuer. */
    long: { ...options, path: pathname },
    /** Sent to the one path that the library names. */
    short: options,
    /** Whoever has signed in by this browser before, and which one of theirs it is. */
    readKnownBrowser(ctx: Context): KnownBrowser | undefined {
      const [userId, id] = ctx.cookies.get(names.knownBrowser, { signed: true })?.split('.') ?? [];
      return userId && id ? { userId, id } : undefined;
    },
    writeKnownBrowser(ctx: Context, { userId, id }: KnownBrowser): void {
      ctx.cookies.set(names.knownBrowser, `${userId}.${id}`, {
        ...options,
        path: pathname,
        maxAge: policy.knownBrowserLifetime * 1000,
      });
    },
  };
}
