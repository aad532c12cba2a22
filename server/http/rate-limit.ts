import type { Logger } from 'pino';
import type { Limit, LimitName, Limits } from '../../config/policy.ts';

/** One too many. */
export interface Refusal {
  readonly limit: LimitName;
  /** Whole seconds, from 1. */
  readonly wait: number;
}

export interface RefusalReports {
  /** @param key who it was, in words that may be logged: an address, an id; never what was presented */
  report(refusal: Refusal, key: string): Refusal;
}

export interface RefusalReportsDeps {
  readonly logger: Logger;
  readonly limits: Limits;
  /** Monotonic, in ms. */
  readonly now: () => number;
  readonly onLimited: (limit: LimitName) => void;
}

const linesAWindow = 100;

/** Counts each refusal, and logs the first of each key in a window; in a storm no more than a hundred of a limit. */
export function createRefusalReports({ logger, limits, now, onLimited }: RefusalReportsDeps): RefusalReports {
  const seen = new Map<LimitName, { end: number; keys: Set<string>; more: number }>();

  function windowOf(limit: LimitName) {
    let present = seen.get(limit);
    if (present && now() < present.end) return present;
    if (present?.more) logger.warn({ limit, refusals: present.more }, 'rate limit: more than were logged');
    present = { end: now() + limits[limit].window * 1000, keys: new Set(), more: 0 };
    seen.set(limit, present);
    return present;
  }

  return {
    report(refusal, key) {
      const { limit } = refusal;
      onLimited(limit);
      const present = windowOf(limit);
      if (present.keys.has(key)) return refusal;
      if (present.keys.size >= linesAWindow) {
        present.more += 1;
        return refusal;
      }
      present.keys.add(key);
      logger.warn({ limit, key }, 'rate limit reached');
      return refusal;
    },
  };
}

/** The fields of a 429 (RFC 9110 §10.2.3, draft-ietf-httpapi-ratelimit-headers-11 §3, §4). */
export function refusalFields({ limit, wait }: Refusal, { points, window }: Limit): Record<string, string> {
  return {
    'Retry-After': String(wait),
    'RateLimit-Policy': `"${limit}";q=${points};w=${window}`,
    RateLimit: `"${limit}";r=0;t=${wait}`,
  };
}
