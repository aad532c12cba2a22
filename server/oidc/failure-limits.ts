import { createHash } from 'node:crypto';
import type { Context } from 'koa';
import { type LimitName, type Limits, policy } from '../../config/policy.ts';
import { networkOf } from '../domain/network.ts';
import { digestPlatformToken, isPlatformTokenFormat } from '../domain/platform-token.ts';
import { createFailedDigests, createKnownDigests } from '../domain/remembered-digests.ts';
import { clientAddress } from '../http/client-address.ts';
import type { Refusal, RefusalReports } from '../http/rate-limit.ts';
import type { SharedCounters } from '../storage/shared-counters.ts';
import type { Credentials } from './client-authentication.ts';
import { isBuiltIn } from './clients.ts';
import { type OAuthError, tooManyRequests } from './oauth-error.ts';

declare module 'koa' {
  interface DefaultState {
    /** SHA-256 of the subject token; absent where it cannot be a platform token. */
    presented?: Buffer;
    /** Something that was presented was bad, whatever the status of the answer. */
    failed?: boolean;
    /** SHA-256 of the code or refresh token. */
    grantDigest?: Buffer;
    /** Digest of the client's credentials, while nobody knows yet whether they are right. */
    clientDigest?: Buffer;
  }
}

/**
 * Limits of what fails at the OAuth endpoints: subject tokens, codes, refresh tokens, tokens to revoke, client credentials. `admit…` comes before
 * anybody asks the database, and throws the 429.
 */
export interface FailureLimits {
  admitSubject(ctx: Context, token: string): void;
  subjectFailed(ctx: Context): void;
  subjectSucceeded(ctx: Context): void;
  /** A code or refresh token that is redeemed. */
  admitGrant(ctx: Context, presented: string): void;
  grantFailed(ctx: Context): void;
  /** @returns the token's digest */
  admitToken(ctx: Context, token: string): Buffer;
  tokenFailed(ctx: Context, digest: Buffer): void;
  admitClient(ctx: Context, credentials: Credentials | undefined): void;
  /** @returns the answer: this refusal, or a 429 in its place */
  clientFailed(ctx: Context, refused: OAuthError): OAuthError;
  clientSucceeded(ctx: Context): void;
}

/** @param gate without one nothing is limited */
export function createFailureLimits(limits: Limits, gate: FailureGate | undefined): FailureLimits {
  const throwIf = (refusal: Refusal | undefined) => {
    if (refusal) throw tooManyRequests(refusal, limits);
  };
  const fail = (ctx: Context, digest: Buffer | undefined) => {
    ctx.state.failed = true;
    return gate?.failed(digest, ctx);
  };
  return {
    admitSubject(ctx, token) {
      // The checksum turns noise away: it is never looked up, and counts for its address alone.
      if (isPlatformTokenFormat(token)) ctx.state.presented = digestPlatformToken(token);
      throwIf(gate?.admit(ctx.state.presented, ctx));
    },
    subjectFailed: (ctx) => throwIf(fail(ctx, ctx.state.presented)),
    subjectSucceeded: (ctx) => gate?.succeeded(ctx.state.presented),
    admitGrant(ctx, presented) {
      ctx.state.grantDigest = digestPlatformToken(presented);
      throwIf(gate?.admit(ctx.state.grantDigest, ctx));
    },
    grantFailed: (ctx) => throwIf(fail(ctx, ctx.state.grantDigest)),
    admitToken(ctx, token) {
      const digest = digestPlatformToken(token);
      throwIf(gate?.admit(digest, ctx));
      return digest;
    },
    tokenFailed: (ctx, digest) => throwIf(fail(ctx, digest)),
    admitClient(ctx, credentials) {
      // A public client that is built in has nothing to be guessed, and costs no query.
      if (!gate || !credentials || (credentials.secret === undefined && isBuiltIn(credentials.id))) return;
      ctx.state.clientDigest = digestCredentials(credentials);
      throwIf(gate.admit(ctx.state.clientDigest, ctx));
    },
    clientFailed(ctx, refused) {
      const refusal = fail(ctx, ctx.state.clientDigest);
      return refusal ? tooManyRequests(refusal, limits) : refused;
    },
    clientSucceeded: (ctx) => gate?.succeeded(ctx.state.clientDigest),
  };
}

/** Apart from the digests of tokens, which are of the token alone; RFC 6749 appendix A: neither half has a NUL. */
function digestCredentials({ id, secret = '' }: Credentials): Buffer {
  return createHash('sha256').update(`client\0${id}\0${secret}`).digest();
}

export interface FailureGateDeps {
  readonly limits: Limits;
  readonly sharedCounters: SharedCounters;
  readonly reports: RefusalReports;
  /** Monotonic, in ms. */
  readonly now: () => number;
  /** In [0, 1). */
  readonly random: () => number;
}

/** Where a request comes from; its address is worked out only where something has failed. */
type From = Pick<Context, 'ip'>;
const networkFrom = (from: From) => networkOf(clientAddress(from));

export type FailureGate = ReturnType<typeof createFailureGate>;

/**
 * Who may ask the database. What was good here before always may: no flood, from whatever address, stands in its way. What has
 * failed too often may not until its window is over. From an address over its limit, nothing may that has failed at
 * all; of what is new here so much a second may, and what comes back after a 429 goes before what comes for the first time. So
 * after a restart, when nothing is known yet, good tokens get through a flood from behind their own address.
 */
export function createFailureGate({ limits, sharedCounters, reports, now, random }: FailureGateDeps) {
  const byDigest: LimitName = 'exchange-failures';
  const byAddress: LimitName = 'exchange-failures-address';
  const good = createKnownDigests(policy.rememberedGood);
  const bad = createFailedDigests(policy.rememberedFailures, limits[byDigest].window);
  const addresses = sharedCounters.counter(byAddress, limits[byAddress]);
  const budget = createLookUpBudget();

  const isOver = (network: string) => addresses.used(network) >= limits[byAddress].points;
  const refuse = (limit: LimitName, wait: number, network: string) =>
    reports.report({ limit, wait }, network);
  // Not the end of the window: all behind the address would come back in that second.
  const refuseAddress = (network: string) =>
    refuse(byAddress, 1 + Math.floor(random() * policy.addressRetryAfter), network);

  return {
    /** @param digest absent where nobody will look it up; @returns why it must not be looked up */
    admit(digest: Buffer | undefined, from: From): Refusal | undefined {
      if (digest && good.has(digest)) return undefined;
      const at = now();
      const failures = digest && bad.failures(digest, at);
      if (digest && failures !== undefined && failures >= limits[byDigest].points)
        return refuse(byDigest, bad.wait(digest, at), networkFrom(from));
      const network = networkFrom(from);
      if (!isOver(network)) return undefined;
      if (digest && !failures) {
        if (budget.take(network, failures === undefined ? 'fresh' : 'returning', at)) return undefined;
        bad.turnAway(digest, at);
      }
      return refuseAddress(network);
    },

    /**
     * Counts a failure.
     * @returns what to answer in its place, from an address that was over its limit: there all that is bad is answered
     * alike, whether it was looked up or not
     */
    failed(digest: Buffer | undefined, from: From): Refusal | undefined {
      if (digest) {
        good.delete(digest);
        bad.add(digest, now());
      }
      const network = networkFrom(from);
      if (isOver(network)) return refuseAddress(network);
      addresses.add(network);
      return undefined;
    },

    succeeded(digest: Buffer | undefined): void {
      if (digest) good.add(digest);
    },
  };
}

/** Look-ups of the present second, for each address over its limit. */
function createLookUpBudget() {
  const { lookUpsOverLimit } = policy;
  const taken = new Map<string, { fresh: number; returning: number }>();
  let second = 0;
  return {
    take(network: string, kind: 'fresh' | 'returning', now: number): boolean {
      const present = Math.floor(now / 1000);
      if (present !== second || taken.size >= policy.countedKeys) taken.clear();
      second = present;
      let used = taken.get(network);
      if (!used) {
        used = { fresh: 0, returning: 0 };
        taken.set(network, used);
      }
      if (used[kind] >= lookUpsOverLimit[kind]) return false;
      used[kind] += 1;
      return true;
    },
  };
}
