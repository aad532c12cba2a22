import { createHmac } from 'node:crypto';
import { type LimitName, type Limits, policy } from '../../config/policy.ts';
import { networkOf } from '../domain/network.ts';
import type { Refusal, RefusalReports } from '../http/rate-limit.ts';
import type { RateLimits } from '../storage/rate-limits.ts';

export interface Attempt {
  /** The e-mail, as the user has it or as it was typed. */
  readonly account: string;
  readonly address: string | null;
  /** Which one it is of those that this user has signed in by before. */
  readonly knownBrowser: string | undefined;
}

export interface SignInLimits {
  /**
   * Whether such an attempt was refused moments ago: told from memory, so that a flood costs no query. Not for a browser that may
   * have a limit of its own.
   */
  refusedLately(attempt: Pick<Attempt, 'account' | 'address'>): Refusal | undefined;
  /** Counts an attempt, before the password is looked at. @returns the refusal where it is one too many */
  count(attempt: Attempt): Promise<Refusal | undefined>;
  /** The password was right: it was no attempt to guess one. */
  takeBack(attempt: Attempt): Promise<void>;
}

export const noLimits: SignInLimits = {
  refusedLately: () => undefined,
  count: async () => undefined,
  takeBack: async () => {},
};

/**
 * OWASP ASVS 5 §6.3.1. Guesses are limited by account and address, by address, and by account over all addresses. The last
 * one lets a stranger keep an account from new browsers for a while, so browsers that have signed in before have a
 * limit of their own instead, which nobody else can use up (OWASP, "Device Cookies"). A refused attempt counts no
 * further: one address alone never uses up an account's limit.
 */
export function createSignInLimits({
  rateLimits,
  limits,
  reports,
  secret,
  now,
  onUnshared,
}: {
  rateLimits: RateLimits;
  limits: Limits;
  reports: RefusalReports;
  /** Keys the digests under which accounts are counted: an e-mail address is easily guessed. */
  secret: string;
  /** Monotonic, in ms. */
  now: () => number;
  /** Told where this process counts for itself. */
  onUnshared: (error: unknown) => void;
}): SignInLimits {
  const lately = new Map<string, { limit: LimitName; end: number; until: number }>();
  const remember = (key: string, { limit, wait }: Refusal) => {
    if (lately.size >= policy.countedKeys) lately.clear();
    // Not to the end: an operator who deletes the counter lets people in at once.
    lately.set(key, { limit, end: now() + wait * 1000, until: now() + policy.signInRefusalMemoryMs });
  };

  const limiter = (name: LimitName) => {
    const counter = rateLimits.limiter(name, limits[name], onUnshared);
    return {
      ...counter,
      async consume(key: string, network: string): Promise<Refusal | undefined> {
        const wait = await counter.consume(key);
        if (wait === undefined) return undefined;
        const refusal = { limit: name, wait };
        // A known browser is asked for its own.
        if (name !== 'sign-in-known-browser') remember(key, refusal);
        return reports.report(refusal, network);
      },
    };
  };
  const here = limiter('sign-in-account-address');
  const known = limiter('sign-in-known-browser');
  const address = limiter('sign-in-address');
  const everywhere = limiter('sign-in-account');

  const digest = (text: string) => createHmac('sha256', secret).update(text).digest('base64url');
  const keysOf = ({ account, address }: Pick<Attempt, 'account' | 'address'>) => {
    const network = networkOf(address);
    const name = account.toLowerCase();
    return {
      account: digest(name),
      network,
      both: digest(`${network} ${name}`),
      // Whoever knew the password once can have signed in by any number of browsers.
      knownToAccount: digest(`known ${name}`),
    };
  };

  return {
    refusedLately(attempt) {
      if (lately.size === 0) return undefined;
      const keys = keysOf(attempt);
      for (const key of [keys.both, keys.network, keys.account]) {
        const found = lately.get(key);
        if (!found || now() >= found.until) lately.delete(key);
        else {
          const wait = Math.max(1, Math.ceil((found.end - now()) / 1000));
          return reports.report({ limit: found.limit, wait }, keys.network);
        }
      }
      return undefined;
    },
    async count(attempt) {
      const keys = keysOf(attempt);
      if (attempt.knownBrowser !== undefined)
        return (
          (await known.consume(digest(attempt.knownBrowser), keys.network)) ??
          (await everywhere.consume(keys.knownToAccount, keys.network))
        );
      return (
        (await here.consume(keys.both, keys.network)) ??
        (await address.consume(keys.network, keys.network)) ??
        (await everywhere.consume(keys.account, keys.network))
      );
    },
    async takeBack(attempt) {
      const keys = keysOf(attempt);
      if (attempt.knownBrowser !== undefined) {
        await known.reset(digest(attempt.knownBrowser));
        return everywhere.giveBack(keys.knownToAccount);
      }
      await here.reset(keys.both);
      await address.giveBack(keys.network);
      await everywhere.giveBack(keys.account);
    },
  };
}
