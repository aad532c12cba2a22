import type { JWK } from 'jose';
import type { Knex } from 'knex';
import type { SigningAlg } from '../../config/env.ts';
import { DomainError } from '../domain/errors.ts';
import {
  isRotationDue,
  type KeyTimes,
  planSuccession,
  refuseLongWait,
  rotationDueAt,
  type Succession,
  scheduleAt,
} from '../domain/key-schedule.ts';
import type { SigningKeys, StoredSigningKey } from '../storage/signing-keys.ts';
import type { Sealer } from './sealing.ts';
import {
  createKeySet,
  createSigningKey,
  type KeySet,
  openSigningKeys,
  resealSigningKey,
  SigningKeyError,
} from './signing-keys.ts';

export interface KeyRingDeps {
  readonly signingKeys: SigningKeys;
  readonly sealer: Sealer;
  /** Of keys that are made from now on. */
  readonly alg: SigningAlg;
  readonly times: KeyTimes;
  readonly clock: () => Date;
}

export interface Rotation {
  /** First signature of the new key; as early as is safe where it is left out. */
  readonly activatesAt?: Date | undefined;
  /**
   * The new key signs at once and the others are worth nothing any more: every access token that is out is refused as
   * soon as its verifier reads the JWKS anew, and until then verifiers may not know the new key.
   */
  readonly emergency?: boolean | undefined;
  /** Writes the event of the audit trail into the same transaction. */
  readonly record: (key: StoredSigningKey, transaction: Knex.Transaction) => Promise<void>;
}

export interface KeyRingState {
  /** First signature of the key that signs now. */
  readonly activatedAt: Date | undefined;
  /** First signature of the key that waits. */
  readonly nextActivatesAt: Date | undefined;
  /** When the next key must be published; undefined where it is. */
  readonly rotationDueAt: Date | undefined;
  readonly published: number;
}

/** The signing keys of this instance: what the rows say, by the clock. */
export interface KeyRing {
  /** @throws SigningKeyError where no key may sign now */
  readonly keySet: () => KeySet;
  /** Reads the rows again. @returns whether anything has changed */
  refresh(): Promise<boolean>;
  /** @throws DomainError `rotation_pending`, `key_schedule_unsafe` */
  rotate(rotation: Rotation): Promise<StoredSigningKey>;
  /** Publishes the next key when its time has come: of several instances one does. */
  rotateIfDue(record: Rotation['record']): Promise<StoredSigningKey | undefined>;
  /** Where the keys stand in their schedule, as this instance knows it. */
  state(): KeyRingState;
  /** What keeps the keys from serving, for `/health/ready`. */
  faults(): Promise<string[]>;
}

/**
 * Reads the keys; at the very first start, makes one. Where SIGNING_ALG has changed, publishes a key of the new one, which
 * takes over like any other; keys under an older key encryption key are put under the first one.
 * @throws SigningKeyError where keys cannot be decrypted: never a silent new key
 */
export async function createKeyRing(deps: KeyRingDeps): Promise<KeyRing> {
  const { signingKeys, sealer, alg, times, clock } = deps;
  let rows: readonly StoredSigningKey[] = [];
  let opened = new Map<string, JWK>();
  let following: Promise<unknown> = Promise.resolve();
  let present: { keySet: KeySet; until: Date | undefined } | undefined;

  function keySet(): KeySet {
    const now = clock();
    if (present && !(present.until && now >= present.until)) return present.keySet;
    const { current, published, changesAt } = scheduleAt(rows, now);
    if (!current) throw new SigningKeyError('no signing key is active');
    const jwks = published.map(({ kid }) => opened.get(kid) as JWK);
    // The same keys in the same order are the same set: nothing that was made of it need be made again.
    const same = present && sameOrder(present.keySet.privateJwks, jwks);
    present = { keySet: same && present ? present.keySet : createKeySet(jwks), until: changesAt };
    return present.keySet;
  }

  async function take(read: readonly StoredSigningKey[]): Promise<boolean> {
    if (JSON.stringify(read.map(identity)) === JSON.stringify(rows.map(identity))) return false;
    const fresh = await openSigningKeys(
      read.filter(({ kid }) => !opened.has(kid)),
      sealer,
    );
    opened = new Map(read.map(({ kid }) => [kid, (opened.get(kid) ?? fresh.get(kid)) as JWK]));
    rows = read;
    if (present) present = { keySet: present.keySet, until: new Date(0) };
    return true;
  }

  async function succeed(
    keys: readonly StoredSigningKey[],
    { publishedAt, activatesAt, predecessorRetiresAt }: Succession,
    transaction: Knex.Transaction,
  ): Promise<StoredSigningKey> {
    const key = await createSigningKey(alg, sealer, { publishedAt, activatesAt });
    for (const { kid, retiresAt } of keys) {
      if (!retiresAt) await signingKeys.retire(kid, predecessorRetiresAt, transaction);
    }
    await signingKeys.insert(key, transaction);
    return key;
  }

  async function replaceAll(keys: readonly StoredSigningKey[], transaction: Knex.Transaction) {
    for (const { kid } of keys) await signingKeys.delete(kid, transaction);
    const now = clock();
    const key = await createSigningKey(alg, sealer, { publishedAt: now, activatesAt: now });
    await signingKeys.insert(key, transaction);
    return key;
  }

  /** One reading after the other: of two at once the older could be taken last, and with it a key that is gone. */
  function follow(): Promise<boolean> {
    const reading = following.then(async () => take(await signingKeys.list()));
    following = reading.catch(() => {});
    return reading;
  }

  /**
   * Whether it lacks a key that it must have by now: the one that signs here must be the one that signs everywhere, and
   * what every instance has had the time to read must be published here too, or verifiers keep a JWKS without it.
   */
  async function isBehind(): Promise<boolean> {
    const { current, published } = scheduleAt(await signingKeys.list(), clock());
    const arrived = new Date(clock().getTime() - (times.refreshInterval + times.clockSkew) * 1000);
    const expected = published.filter((key) => key.kid === current?.kid || key.publishedAt <= arrived);
    return !(current && expected.every(({ kid }) => opened.has(kid)));
  }

  /** What has changed is what this instance goes by. */
  async function changed<T>(work: Promise<T>): Promise<T> {
    const result = await work;
    await follow();
    return result;
  }

  const ring: KeyRing = {
    keySet,
    refresh: follow,

    rotate({ activatesAt, emergency, record }) {
      return changed(
        signingKeys.withLock(async (keys, transaction) => {
          const now = clock();
          const { published } = scheduleAt(keys, now);
          if (!emergency && published.some(({ state }) => state === 'next')) {
            throw new DomainError(
              'rotation_pending',
              'The next key is published already, and has not taken over yet.',
            );
          }
          if (activatesAt) refuseLongWait(times, now, activatesAt);
          const key = emergency
            ? await replaceAll(keys, transaction)
            : await succeed(keys, planSuccession(times, now, activatesAt), transaction);
          await record(key, transaction);
          return key;
        }),
      );
    },

    async rotateIfDue(record) {
      const isDue = (keys: readonly StoredSigningKey[]) =>
        isRotationDue(scheduleAt(keys, clock()), times, clock());
      if (!isDue(rows)) return undefined;
      return changed(
        signingKeys.withLock(async (keys, transaction) => {
          if (!isDue(keys)) return undefined;
          const key = await succeed(keys, planSuccession(times, clock()), transaction);
          await record(key, transaction);
          return key;
        }),
      );
    },

    state() {
      const { current, published } = scheduleAt(rows, clock());
      const next = published.findLast(({ state }) => state === 'next');
      return {
        activatedAt: current?.activatesAt,
        nextActivatesAt: next?.activatesAt,
        rotationDueAt: current && !next ? rotationDueAt(current, times) : undefined,
        published: published.length,
      };
    },

    async faults() {
      try {
        if (!(await isBehind())) return [];
        // What was changed a moment ago, here or elsewhere, is on its way: it is read before anything is said.
        await follow();
        return (await isBehind()) ? ['signing_keys'] : [];
      } catch (error) {
        // It answered a moment ago: readiness gives a reason, never the problem document of an error.
        return [error instanceof SigningKeyError ? 'signing_keys' : 'database'];
      }
    },
  };

  const first = await signingKeys.withLock(async (keys, transaction) => {
    const now = clock();
    if (keys.length === 0) {
      const key = await createSigningKey(alg, sealer, { publishedAt: now, activatesAt: now });
      await signingKeys.insert(key, transaction);
      return [key];
    }
    // Before anything is made: a key that cannot be opened is an error.
    await openSigningKeys(keys, sealer);
    const latest = keys.findLast(({ retiresAt }) => !retiresAt);
    if (latest?.alg === alg) return keys;
    // A rotation may be waiting: the new key follows it, so that each key has its successor.
    const earliest = planSuccession(times, now).activatesAt;
    const afterLatest = new Date((latest?.activatesAt.getTime() ?? 0) + 1_000);
    const activatesAt = afterLatest > earliest ? afterLatest : earliest;
    await succeed(keys, planSuccession(times, now, activatesAt), transaction);
    return signingKeys.list(transaction);
  });
  await take(first);
  for (const row of first) {
    const resealed = await resealSigningKey(row, sealer);
    if (resealed) await signingKeys.reseal(row.kid, row.privateJwe, resealed);
  }
  // A start without a key that may sign fails here, and not at the first exchange.
  ring.keySet();
  return ring;
}

const identity = ({ kid, activatesAt, retiresAt }: StoredSigningKey) => [kid, activatesAt, retiresAt];

function sameOrder(a: readonly JWK[], b: readonly JWK[]): boolean {
  return a.length === b.length && a.every(({ kid }, index) => kid === b[index]?.kid);
}
