import { createHmac } from 'node:crypto';
import { policy } from '../../config/policy.ts';
import type { RateLimits } from '../storage/rate-limits.ts';

export interface Attempt {
  /** The e-mail, as the user has it or as it was typed. */
  readonly account: string;
  readonly address: string | null;
  /** Whether this browser has signed in as this user before. */
  readonly knownBrowser: boolean;
}

export interface SignInLimits {
  /** Counts an attempt, before the password is looked at. @returns the seconds to wait where it is one too many */
  count(attempt: Attempt): Promise<number | undefined>;
  /** The password was right: it was no attempt to guess one. */
  takeBack(attempt: Attempt): Promise<void>;
}

export const noLimits: SignInLimits = { count: async () => undefined, takeBack: async () => {} };

/**
 * OWASP ASVS 5 §6.3.1. Guesses are limited by account and address, by address, and by account over all addresses. The last
 * one lets a stranger keep an account from new browsers for a while, so browsers that have signed in before have a
 * limit of their own instead, which nobody else can use up (OWASP, "Device Cookies"). A refused attempt counts no
 * further: one address alone never uses up an account's limit.
 */
export function createSignInLimits({
  rateLimits,
  secret,
}: {
  rateLimits: RateLimits;
  /** Keys the digests under which accounts are counted: an e-mail address is easily guessed. */
  secret: string;
}): SignInLimits {
  const { window, perAccountAndAddress, perAddress, perAccount } = policy.signInLimits;
  const here = rateLimits.limiter('sign-in-account-address', perAccountAndAddress, window);
  const known = rateLimits.limiter('sign-in-known-browser', perAccountAndAddress, window);
  const address = rateLimits.limiter('sign-in-address', perAddress, window);
  const everywhere = rateLimits.limiter('sign-in-account', perAccount, window);

  const digest = (text: string) => createHmac('sha256', secret).update(text).digest('base64url');
  const keysOf = ({ account, address }: Attempt) => {
    const network = networkOf(address);
    const name = account.toLowerCase();
    return { account: digest(name), network, both: digest(`${network} ${name}`) };
  };

  return {
    async count(attempt) {
      const keys = keysOf(attempt);
      if (attempt.knownBrowser) return known.consume(keys.account);
      return (
        (await here.consume(keys.both)) ??
        (await address.consume(keys.network)) ??
        (await everywhere.consume(keys.account))
      );
    },
    async takeBack(attempt) {
      const keys = keysOf(attempt);
      if (attempt.knownBrowser) return known.reset(keys.account);
      await here.reset(keys.both);
      await address.giveBack(keys.network);
      await everywhere.giveBack(keys.account);
    },
  };
}

/** Whoever has one IPv6 address has the 2^64 of its network. */
function networkOf(address: string | null): string {
  if (!address?.includes(':')) return address ?? 'unknown';
  const [head = '', tail] = address.split('::');
  const groups = head.split(':').filter(Boolean);
  if (tail !== undefined) {
    const rest = tail.split(':').filter(Boolean);
    groups.push(...Array(Math.max(0, 8 - groups.length - rest.length)).fill('0'), ...rest);
  }
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}
