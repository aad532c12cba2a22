import { policy } from '../../config/policy.ts';
import { DomainError } from './errors.ts';

/** The times that a signing key's life is reckoned by, in seconds. */
export interface KeyTimes {
  /** How old a verifier's copy of the JWKS may be: its `max-age`, or what libraries go by that do not read it. */
  readonly jwksCopyAge: number;
  /** How often an instance reads the keys: how late it may publish a new one. */
  readonly refreshInterval: number;
  /** How far apart the clocks of instances and verifiers may be. */
  readonly clockSkew: number;
  /** Longest life of what is signed. */
  readonly accessTokenLifetime: number;
  /** From one key's first signature to the next key's. */
  readonly rotationInterval: number;
}

/** The product's own, with the rotation interval in days. */
export function createKeyTimes(rotationDays: number): KeyTimes {
  return {
    jwksCopyAge: policy.jwksCopyAge,
    refreshInterval: policy.keyRefreshInterval,
    clockSkew: policy.clockSkew,
    accessTokenLifetime: policy.accessTokenLifetime,
    rotationInterval: rotationDays * 24 * 60 * 60,
  };
}

export interface ScheduledKey {
  readonly kid: string;
  readonly publishedAt: Date;
  readonly activatesAt: Date;
  /** When it leaves the JWKS; null until its successor is known. */
  readonly retiresAt: Date | null;
}

export type KeyState = 'next' | 'current' | 'previous';

/** From publication to the first signature: by then every instance serves the key, and no verifier has an older copy. */
export const publicationLead = (times: KeyTimes): number =>
  times.jwksCopyAge + times.refreshInterval + times.clockSkew;

/** From the successor's first signature to leaving: by then the last token that this key signed has ended everywhere. */
export const retirementDelay = (times: KeyTimes): number =>
  times.accessTokenLifetime + times.jwksCopyAge + times.clockSkew;

export interface KeySchedule<K extends ScheduledKey> {
  /** Signs. Undefined where there is no key. */
  readonly current: K | undefined;
  /** In the JWKS, the current one first. */
  readonly published: readonly (K & { readonly state: KeyState })[];
  /** When the schedule will next be another one; undefined for never. */
  readonly changesAt: Date | undefined;
}

/** Which key signs and which are published: by the rows and the clock alone, so that every instance agrees. */
export function scheduleAt<K extends ScheduledKey>(keys: readonly K[], now: Date): KeySchedule<K> {
  const alive = keys.filter(({ retiresAt }) => !retiresAt || retiresAt > now).toSorted(byActivation);
  // Where none may sign yet, the first does: one that was to sign at once was made by an instance whose clock is ahead.
  const current = alive.findLast(({ activatesAt }) => activatesAt <= now) ?? alive[0];
  const stateOf = (key: K): KeyState => {
    if (key === current) return 'current';
    return key.activatesAt > now ? 'next' : 'previous';
  };
  const published = alive
    .map((key) => ({ ...key, state: stateOf(key) }))
    .toSorted((a, b) => Number(b.state === 'current') - Number(a.state === 'current') || -byActivation(a, b));
  const changes = alive
    .flatMap(({ activatesAt, retiresAt }) => [activatesAt, ...(retiresAt ? [retiresAt] : [])])
    .filter((at) => at > now)
    .map((at) => at.getTime());
  return {
    current,
    published,
    changesAt: changes.length > 0 ? new Date(Math.min(...changes)) : undefined,
  };
}

/** Two instances never disagree about an equal time: the key's name decides. */
function byActivation(a: ScheduledKey, b: ScheduledKey): number {
  return a.activatesAt.getTime() - b.activatesAt.getTime() || (a.kid < b.kid ? -1 : 1);
}

export interface Succession {
  readonly publishedAt: Date;
  /** First signature of the new key. */
  readonly activatesAt: Date;
  /** When the key before it leaves. */
  readonly predecessorRetiresAt: Date;
}

/**
 * When a key published now takes over.
 * @param activatesAt as early as is safe where it is left out
 * @throws DomainError `key_schedule_unsafe` where a verifier could meet a signature by a key that it cannot know yet
 */
export function planSuccession(times: KeyTimes, now: Date, activatesAt?: Date): Succession {
  const earliest = after(now, publicationLead(times));
  const first = activatesAt ?? earliest;
  if (first < earliest) {
    throw new DomainError(
      'key_schedule_unsafe',
      `A key published now may sign from ${earliest.toISOString()} on: before that, verifiers may not have it.`,
    );
  }
  return {
    publishedAt: now,
    activatesAt: first,
    predecessorRetiresAt: after(first, retirementDelay(times)),
  };
}

/**
 * A key that waits keeps every other from being made, so it waits no longer than the interval.
 * @throws DomainError `key_schedule_unsafe`
 */
export function refuseLongWait(times: KeyTimes, now: Date, activatesAt: Date): void {
  const latest = after(now, times.rotationInterval);
  if (activatesAt > latest) {
    throw new DomainError(
      'key_schedule_unsafe',
      `A key published now must sign from ${latest.toISOString()} on at the latest: until then no other can be published.`,
    );
  }
}

/** When the next key must be published, so that it takes over one rotation interval after the current one did. */
export function rotationDueAt(current: ScheduledKey, times: KeyTimes): Date {
  return after(current.activatesAt, times.rotationInterval - publicationLead(times));
}

export function isRotationDue<K extends ScheduledKey>(
  { current, published }: KeySchedule<K>,
  times: KeyTimes,
  now: Date,
): boolean {
  if (!current || published.some(({ state }) => state === 'next')) return false;
  return now >= rotationDueAt(current, times);
}

function after(date: Date, seconds: number): Date {
  return new Date(date.getTime() + seconds * 1000);
}
