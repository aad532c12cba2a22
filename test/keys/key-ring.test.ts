import { decodeProtectedHeader } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SigningAlg } from '../../config/env.ts';
import { createKeyTimes } from '../../server/domain/key-schedule.ts';
import { createKeyRing } from '../../server/keys/key-ring.ts';
import { watchKeys } from '../../server/keys/key-watch.ts';
import { createSealer } from '../../server/keys/sealing.ts';
import type { Database } from '../../server/storage/database.ts';
import { listenTo } from '../../server/storage/notifications.ts';
import { signingKeysChannel } from '../../server/storage/signing-keys.ts';
import { createStores, type Stores } from '../../server/storage/stores.ts';
import { createTestDatabase, kek } from '../support/harness.ts';

let database: Database;
let url: string;
let drop: () => Promise<void>;
let stores: Stores;
let now: Date;
beforeEach(async () => {
  ({ database, url, drop } = await createTestDatabase());
  stores = createStores(database, () => {});
  now = new Date('2026-01-01T00:00:00Z');
});
afterEach(() => drop());

const times = createKeyTimes(90);
const record = async () => {};
const pass = (seconds: number) => {
  now = new Date(now.getTime() + seconds * 1000);
};
const open = ({
  alg = 'ES256' as SigningAlg,
  keys = [kek] as readonly Buffer[],
  clock = () => now,
  signingKeys = stores.signingKeys,
} = {}) => createKeyRing({ signingKeys, sealer: createSealer(keys), alg, times, clock });
/** An instance whose clock is as far behind as it may be. */
const openSlow = () => open({ clock: () => new Date(now.getTime() - times.clockSkew * 1000) });
const kids = (ring: Awaited<ReturnType<typeof open>>) => ring.keySet().publicJwks.map(({ kid }) => kid);

describe('a rotation', () => {
  it('publishes the next key at once, signs by it from its time on, and drops the former one at the end', async () => {
    const ring = await open();
    const before = ring.keySet();
    const [former] = kids(ring);
    const next = await ring.rotate({ record });
    expect(kids(ring)).toEqual([former, next.kid]);
    expect(ring.keySet().alg).toBe('ES256');
    expect(ring.keySet()).not.toBe(before);
    pass(689);
    expect(kids(ring)).toEqual([former, next.kid]);
    pass(1);
    expect(kids(ring)).toEqual([next.kid, former]);
    const during = ring.keySet();
    pass(15_059);
    expect(ring.keySet()).toBe(during);
    pass(1);
    expect(kids(ring)).toEqual([next.kid]);
  });

  it('is one at a time: a second one waits for the first', async () => {
    const ring = await open();
    await ring.rotate({ record });
    await expect(ring.rotate({ record })).rejects.toMatchObject({ code: 'rotation_pending' });
    pass(690);
    await ring.rotate({ record });
    expect(kids(ring)).toHaveLength(3);
  });

  it('of many at once over several instances is one', async () => {
    const rings = await Promise.all([open(), open(), open()]);
    const outcomes = await Promise.allSettled(
      rings.flatMap((ring) => [ring.rotate({ record }), ring.rotate({ record })]),
    );
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const ring of rings) await ring.refresh();
    expect(new Set(rings.map((ring) => ring.keySet().jwks.body)).size).toBe(1);
  });

  it('that is too early is refused, and changes nothing', async () => {
    const ring = await open();
    const before = ring.keySet();
    const activatesAt = new Date(now.getTime() + 60_000);
    await expect(ring.rotate({ activatesAt, record })).rejects.toMatchObject({ code: 'key_schedule_unsafe' });
    expect(ring.keySet()).toBe(before);
    expect(await stores.signingKeys.list()).toHaveLength(1);
  });

  it('that is later than the interval is refused: until then no other could be made', async () => {
    const ring = await open();
    const rotateAfter = (seconds: number) =>
      ring.rotate({ activatesAt: new Date(now.getTime() + seconds * 1000), record });
    await expect(rotateAfter(90 * 86_400 + 1)).rejects.toMatchObject({ code: 'key_schedule_unsafe' });
    expect(await stores.signingKeys.list()).toHaveLength(1);
    await rotateAfter(90 * 86_400);
    expect(kids(ring)).toHaveLength(2);
  });

  it('whose audit event cannot be written does not happen', async () => {
    const ring = await open();
    await expect(ring.rotate({ record: () => Promise.reject(new Error('no trail')) })).rejects.toThrow(
      'no trail',
    );
    expect(await stores.signingKeys.list()).toHaveLength(1);
    expect(kids(ring)).toHaveLength(1);
  });

  it('comes by itself when the interval is over, once over all instances', async () => {
    const rings = await Promise.all([open(), open()]);
    const rotateAll = async () => {
      const made = await Promise.all(rings.map((ring) => ring.rotateIfDue(record)));
      for (const ring of rings) await ring.refresh();
      return made.filter(Boolean).length;
    };
    pass(90 * 86_400 - 691);
    expect(await rotateAll()).toBe(0);
    pass(1);
    expect(await rotateAll()).toBe(1);
    const [former, next] = kids(rings[0] as never);
    pass(690);
    for (const ring of rings) expect(kids(ring)).toEqual([next, former]);
    expect(await rotateAll()).toBe(0);
  });

  it('in an emergency signs by the new key at once, and publishes no other', async () => {
    const ring = await open();
    await ring.rotate({ record });
    const { kid } = await ring.rotate({ emergency: true, record });
    expect(kids(ring)).toEqual([kid]);
    expect((await stores.signingKeys.list()).map((key) => key.kid)).toEqual([kid]);
  });

  it('leaves no private key behind once it has retired', async () => {
    const ring = await open();
    await ring.rotate({ record });
    pass(690 + 15_060);
    await stores.signingKeys.deleteExpired(now);
    expect(await stores.signingKeys.list()).toHaveLength(1);
    await ring.refresh();
    expect(kids(ring)).toHaveLength(1);
  });
});

describe('another instance', () => {
  it('learns of a rotation at once, by a notification', async () => {
    const [here, there] = await Promise.all([open(), open()]);
    const watch = watchKeys({
      keyRing: there,
      refreshInterval: 3_600,
      listen: (onChange) => listenTo({ connectionString: url, channel: signingKeysChannel }, onChange),
      record,
      onError: (error) => {
        throw error;
      },
    });
    try {
      const { kid } = await here.rotate({ record });
      await expect.poll(() => kids(there)).toContain(kid);
    } finally {
      await watch.close();
    }
  });

  it('learns of it at its next reading where no notification comes', async () => {
    const [here, there] = await Promise.all([open(), open()]);
    const watch = watchKeys({
      keyRing: there,
      refreshInterval: 0.2,
      listen: () => ({ close: async () => {} }),
      record,
      onError: () => {},
    });
    try {
      const { kid } = await here.rotate({ record });
      await expect.poll(() => kids(there)).toContain(kid);
    } finally {
      await watch.close();
    }
  });

  it('goes on listening after its connection was cut', async () => {
    let told = 0;
    const listener = listenTo({ connectionString: url, channel: signingKeysChannel }, () => {
      told += 1;
    });
    try {
      await expect.poll(() => told).toBe(1);
      await database.knex.raw(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'platform-tokens listener' AND datname = current_database()",
      );
      await expect.poll(() => told, { timeout: 10_000 }).toBe(2);
    } finally {
      await listener.close();
    }
  });

  it('whose clock is behind starts beside the first one, and signs at once after an emergency rotation', async () => {
    const here = await open();
    const there = await openSlow();
    expect(there.keySet().jwks).toEqual(here.keySet().jwks);
    const { kid } = await here.rotate({ emergency: true, record });
    await there.refresh();
    expect(kids(there)).toEqual([kid]);
    expect(await there.faults()).toEqual([]);
  });

  it('never takes an older reading of the keys after a newer one', async () => {
    const here = await open();
    let hold: Promise<void> | undefined;
    const there = await open({
      signingKeys: {
        ...stores.signingKeys,
        async list(executor) {
          const [waits, read] = [hold, await stores.signingKeys.list(executor)];
          await waits;
          return read;
        },
      },
    });
    await here.rotate({ record });
    const { promise, resolve } = Promise.withResolvers<void>();
    hold = promise;
    const older = there.refresh();
    await new Promise((resolve) => setTimeout(resolve, 100));
    hold = undefined;
    const { kid } = await here.rotate({ emergency: true, record });
    const newer = there.refresh();
    await Promise.race([newer, new Promise((resolve) => setTimeout(resolve, 500))]);
    resolve();
    await Promise.all([older, newer]);
    expect(kids(there)).toEqual([kid]);
  });

  it('reads the key that signs elsewhere before it says whether it is ready', async () => {
    const [here, there] = await Promise.all([open(), open()]);
    const { kid } = await here.rotate({ emergency: true, record });
    expect(await there.faults()).toEqual([]);
    expect(kids(there)).toEqual([kid]);
  });

  it('is ready between the commit of its own rotation and the reading of what it wrote', async () => {
    let committed = async () => {};
    const ring = await open({
      signingKeys: {
        ...stores.signingKeys,
        async withLock(work) {
          const result = await stores.signingKeys.withLock(work);
          await committed();
          return result;
        },
      },
    });
    const faults: string[][] = [];
    committed = async () => void faults.push(await ring.faults());
    await ring.rotate({ emergency: true, record });
    expect(faults).toEqual([[]]);
  });
});

describe('a new key encryption key', () => {
  const other = Buffer.alloc(32, 9);

  it('put first takes over what the former one holds, which may go then', async () => {
    const before = await open();
    await before.rotate({ record });
    const after = await open({ keys: [other, kek] });
    expect(after.keySet().jwks).toEqual(before.keySet().jwks);
    const ids = (await stores.signingKeys.list()).map(
      ({ privateJwe }) => decodeProtectedHeader(privateJwe).kid,
    );
    expect(new Set(ids).size).toBe(1);
    const alone = await open({ keys: [other] });
    expect(alone.keySet().jwks).toEqual(before.keySet().jwks);
  });

  it('that an instance does not have yet takes it out of service before a verifier can miss a key', async () => {
    const old = await open();
    const renewed = await open({ keys: [other, kek] });
    await renewed.rotate({ record });
    await expect(old.refresh()).rejects.toThrow('KEY_ENCRYPTION_KEY');
    // Every instance has some time to read a new key.
    expect(await old.faults()).toEqual([]);
    pass(times.refreshInterval + times.clockSkew);
    expect(await old.faults()).toEqual(['signing_keys']);
    expect(await renewed.faults()).toEqual([]);
    pass(times.jwksCopyAge);
    expect(await old.faults()).toEqual(['signing_keys']);
  });

  it('that an instance does not have yet takes it out of service at once where that key signs', async () => {
    const old = await open();
    const renewed = await open({ keys: [other, kek] });
    await renewed.rotate({ emergency: true, record });
    expect(await old.faults()).toEqual(['signing_keys']);
  });

  it('that every instance can open before one seals with it keeps all of them in service', async () => {
    const former = await open({ keys: [kek, other] });
    const renewed = await open({ keys: [other, kek] });
    await renewed.rotate({ record });
    await former.refresh();
    expect(former.keySet().jwks).toEqual(renewed.keySet().jwks);
    pass(690);
    expect(await former.faults()).toEqual([]);
  });

  it('alone is an error that names every key that is lost, and makes none', async () => {
    const ring = await open();
    await ring.rotate({ record });
    const refused = open({ keys: [other] });
    for (const kid of kids(ring)) await expect(refused).rejects.toThrow(String(kid));
    expect(await stores.signingKeys.list()).toHaveLength(2);
  });
});

describe('another SIGNING_ALG', () => {
  it('takes over like any other key, and the overlap of two key types ends when the last token has', async () => {
    const [former] = kids(await open());
    const ring = await open({ alg: 'RS256' });
    const types = () => ring.keySet().publicJwks.map(({ kty }) => kty);
    expect(types()).toEqual(['EC', 'RSA']);
    expect(ring.keySet()).toMatchObject({ alg: 'ES256', algs: ['ES256', 'RS256'] });
    expect(kids(ring)[0]).toBe(former);
    pass(690);
    expect(ring.keySet()).toMatchObject({ alg: 'RS256', algs: ['RS256', 'ES256'] });
    expect(types()).toEqual(['RSA', 'EC']);
    pass(15_059);
    expect(types()).toEqual(['RSA', 'EC']);
    pass(1);
    expect(types()).toEqual(['RSA']);
  });

  it('is followed by the instances that have not been told yet, and asked for once', async () => {
    const former = await open();
    await open({ alg: 'RS256' });
    await open({ alg: 'RS256' });
    expect(await stores.signingKeys.list()).toHaveLength(2);
    await former.refresh();
    pass(690);
    expect(former.keySet().alg).toBe('RS256');
  });

  it('comes after a rotation that is waiting already, however far away', async () => {
    const former = await open();
    const waiting = await former.rotate({ activatesAt: new Date(now.getTime() + 7 * 86_400_000), record });
    const ring = await open({ alg: 'RS256' });
    pass(7 * 86_400);
    expect(kids(ring)[0]).toBe(waiting.kid);
    expect(ring.keySet()).toMatchObject({ alg: 'ES256' });
    pass(1);
    expect(ring.keySet()).toMatchObject({ alg: 'RS256' });
    // What the one before it signed is good for as long as it lives.
    pass(15_059);
    expect(kids(ring)).toContain(waiting.kid);
  });

  it('without the long overlap is an emergency rotation', async () => {
    await open();
    const ring = await open({ alg: 'EdDSA' });
    const types = () => ring.keySet().publicJwks.map(({ kty }) => kty);
    expect(types()).toEqual(['EC', 'OKP']);
    await ring.rotate({ emergency: true, record });
    expect(types()).toEqual(['OKP']);
  });

  it('without any overlap is a start on no keys', async () => {
    await open();
    await database.knex('signing_keys').delete();
    const ring = await open({ alg: 'EdDSA' });
    expect(ring.keySet().publicJwks.map(({ kty }) => kty)).toEqual(['OKP']);
  });
});
