import type { RequestListener } from 'node:http';
import type { Logger } from 'pino';
import { policy } from '../../config/policy.ts';
import { securityFields } from './security-headers.ts';

export interface OverloadBounds {
  /** Of a delay, in ms: from here on requests are refused… */
  readonly begin: number;
  /** …until it is below this one; */
  readonly end: number;
  /** and here as many as there may be. */
  readonly full: number;
  readonly maximumShare: number;
}

/**
 * Which share of the requests is refused, by a delay: it grows with it, so that what is accepted comes to what can be done.
 * One long delay is a pause (a collection of garbage, a process that was stopped); two in a row are load.
 */
export function createShedding({ begin, end, full, maximumShare }: OverloadBounds) {
  const weight = 0.3;
  let before = 0;
  let delay = 0;
  let share = 0;
  return {
    get delay() {
      return delay;
    },
    get share() {
      return share;
    },
    /** @param observed in ms */
    observe(observed: number): void {
      delay += (Math.min(observed, before, 2 * full) - delay) * weight;
      before = observed;
      const sheds = delay > (share > 0 ? end : begin);
      share = sheds ? Math.min((delay - end) / (full - end), maximumShare) : 0;
    },
  };
}

/** Whether the next one is of the share: evenly, without chance. */
export function createTurnstile() {
  let owed = 0;
  return (share: number): boolean => {
    owed += share;
    if (owed < 1) return false;
    owed -= 1;
    return true;
  };
}

export interface OverloadDeps {
  /** The issuer's, under which all routes are; empty for none. */
  readonly path: string;
  readonly tls: boolean;
  readonly logger: Pick<Logger, 'warn'>;
  /** How long exchanges wait for the database, in ms. */
  readonly waitMs: () => number;
  readonly bounds?: { readonly loop: OverloadBounds; readonly wait: OverloadBounds };
}

/** What `/metrics` tells of it. */
export interface Overload {
  /** Of the event loop, and of exchanges that wait for the database, as they count. */
  readonly delayMs: number;
  readonly waitMs: number;
  /** Of the requests that come now, from 0 to 1. */
  readonly share: number;
  /** Requests that were refused since the start. */
  readonly refused: number;
  /** Refuses before anything is done or read for a request. */
  guard(listener: RequestListener): RequestListener;
  close(): void;
}

// They cost next to nothing, and whoever watches or verifies needs them most when the server is busy.
const neverRefused = /^\/(health\/|metrics$|oauth\/(jwks$|status-lists\/)|\.well-known\/)/;
const detail = 'the server is busy; try again';
const oauthBody = JSON.stringify({ error: 'temporarily_unavailable', error_description: detail });
const problemBody = JSON.stringify({
  type: 'about:blank',
  title: 'Service Unavailable',
  status: 503,
  detail: 'The server is busy; try again.',
});
const headers = (type: string, body: string, deps: { readonly tls: boolean }) => [
  ...['Content-Type', type, 'Content-Length', String(Buffer.byteLength(body))],
  ...['Cache-Control', 'no-store', 'Retry-After', String(policy.retryAfter)],
  // Who asks again at once, whatever Retry-After says, waits to be let in, and is in nobody's way.
  ...['Connection', 'close'],
  ...securityFields(deps).flat(),
];

/** Watches the event loop and what waits for the database, and sheds load that is above what the process can do (docs/decisions/0015). */
export function watchOverload({
  path,
  tls,
  logger,
  waitMs,
  bounds = policy.overload,
}: OverloadDeps): Overload {
  const oauthHeaders = headers('application/json; charset=utf-8', oauthBody, { tls });
  const problemHeaders = headers('application/problem+json', problemBody, { tls });
  const loop = createShedding(bounds.loop);
  const wait = createShedding(bounds.wait);
  const refuses = createTurnstile();
  let share = 0;
  let refused = 0;
  let told = { at: 0, refused: 0 };
  let last = performance.now();

  const timer = setInterval(() => {
    const now = performance.now();
    loop.observe(now - last - policy.overloadIntervalMs);
    wait.observe(waitMs());
    share = Math.max(loop.share, wait.share);
    last = now;
    if (refused === told.refused || now - told.at < policy.overloadLogIntervalMs) return;
    logger.warn(
      {
        refused: refused - told.refused,
        delay_ms: Math.round(loop.delay),
        wait_ms: Math.round(wait.delay),
      },
      'overload: requests are refused',
    );
    told = { at: now, refused };
  }, policy.overloadIntervalMs).unref();

  return {
    get delayMs() {
      return loop.delay;
    },
    get waitMs() {
      return wait.delay;
    },
    get share() {
      return share;
    },
    get refused() {
      return refused;
    },
    guard: (listener) => (request, response) => {
      if (share === 0) return listener(request, response);
      const target = request.url ?? '/';
      const query = target.indexOf('?');
      const route = target.slice(target.startsWith(path) ? path.length : 0, query < 0 ? undefined : query);
      if (neverRefused.test(route) || !refuses(share)) return listener(request, response);
      refused += 1;
      const oauth = route.startsWith('/oauth/');
      response.writeHead(503, oauth ? oauthHeaders : problemHeaders).end(oauth ? oauthBody : problemBody);
    },
    close() {
      clearInterval(timer);
    },
  };
}
