import type { Logger } from 'pino';
import type { Config } from '../config/env.ts';
import type { LimitName } from '../config/policy.ts';
import { createWriteLimit, type WriteLimit } from './admin/write-limit.ts';
import { createRefusalReports } from './http/rate-limit.ts';
import { type AuthorizationLimit, createAuthorizationLimit } from './oidc/authorization-limit.ts';
import { createFailureGate, createFailureLimits, type FailureLimits } from './oidc/failure-limits.ts';
import { createPace, type Pace } from './oidc/pace.ts';
import { createSignInLimits, noLimits, type SignInLimits } from './oidc/sign-in-limits.ts';
import { type CountUse, createUseLimit } from './oidc/use-limit.ts';
import type { RateLimits } from './storage/rate-limits.ts';

export interface LimitsDeps {
  readonly config: Pick<Config, 'issuer' | 'rateLimits' | 'limits'>;
  readonly rateLimits: RateLimits;
  /** Keys the digests under which accounts are counted. */
  readonly secret: string;
  readonly logger: Logger;
  /** Monotonic, in ms. */
  readonly now: () => number;
  readonly onLimited: (limit: LimitName) => void;
  /** How refusals wait for their turn. @param ms */
  readonly delay?: ((ms: number) => Promise<unknown>) | undefined;
}

export interface EveryLimit {
  readonly failureLimits: FailureLimits;
  readonly paceRefusal: Pace;
  readonly countAuthorization: AuthorizationLimit;
  readonly countUse: CountUse;
  readonly countWrite: WriteLimit;
  readonly signInLimits: SignInLimits;
}

/** All rate limits, over one configuration and one set of shared counters; without RATE_LIMITS none. */
export function createLimits({
  config,
  rateLimits,
  secret,
  logger,
  now,
  onLimited,
  delay,
}: LimitsDeps): EveryLimit {
  const { issuer, limits } = config;
  if (!config.rateLimits) {
    return {
      failureLimits: createFailureLimits(limits, undefined),
      paceRefusal: async () => {},
      countAuthorization: () => undefined,
      countUse: () => {},
      countWrite: () => {},
      signInLimits: noLimits,
    };
  }
  const reports = createRefusalReports({ logger, limits, now, onLimited });
  const onUnshared = (err: unknown) =>
    logger.warn({ err }, 'rate limits are not shared: each process counts for itself');
  const sharedCounters = rateLimits.shared({ now, onError: onUnshared });
  const gate = createFailureGate({ limits, sharedCounters, reports, now, random: Math.random });
  return {
    failureLimits: createFailureLimits(limits, gate),
    paceRefusal: createPace({ now, delay }),
    countAuthorization: createAuthorizationLimit({ issuer, limits, sharedCounters, reports }),
    countUse: createUseLimit({ limits, reports, now }),
    countWrite: createWriteLimit({ limits, sharedCounters, reports }),
    signInLimits: createSignInLimits({ rateLimits, limits, reports, secret, now, onUnshared }),
  };
}
