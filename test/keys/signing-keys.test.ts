import { calculateJwkThumbprint, importJWK, jwtVerify, SignJWT } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SigningAlg } from '../../config/env.ts';
import { createKeyTimes } from '../../server/domain/key-schedule.ts';
import { createKeyRing } from '../../server/keys/key-ring.ts';
import { createSealer } from '../../server/keys/sealing.ts';
import { SigningKeyError } from '../../server/keys/signing-keys.ts';
import type { Database } from '../../server/storage/database.ts';
import { createStores, type Stores } from '../../server/storage/stores.ts';
import { createTestDatabase, kek } from '../support/harness.ts';

let database: Database;
let drop: () => Promise<void>;
let stores: Stores;
beforeEach(async () => {
  ({ database, drop } = await createTestDatabase());
  stores = createStores(database, () => {});
});
afterEach(() => drop());

const load = async (alg: SigningAlg = 'ES256', keys: readonly Buffer[] = [kek]) => {
  const { signingKeys } = stores;
  const times = createKeyTimes(90);
  const sealer = createSealer(keys);
  return (await createKeyRing({ signingKeys, sealer, alg, times, clock: () => new Date() })).keySet();
};

const shapes = {
  ES256: { kty: 'EC', crv: 'P-256', members: ['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y'] },
  RS256: { kty: 'RSA', crv: undefined, members: ['alg', 'e', 'kid', 'kty', 'n', 'use'] },
  PS256: { kty: 'RSA', crv: undefined, members: ['alg', 'e', 'kid', 'kty', 'n', 'use'] },
  EdDSA: { kty: 'OKP', crv: 'Ed25519', members: ['alg', 'crv', 'kid', 'kty', 'use', 'x'] },
};

describe.each(['ES256', 'RS256', 'PS256', 'EdDSA'] as const)('key set for %s', (alg) => {
  it('is made at the first start, found at the next, and signs what it verifies', async () => {
    const first = await load(alg);
    const second = await load(alg);
    expect(second.jwks).toEqual(first.jwks);
    expect(first.publicJwks).toHaveLength(1);
    const [jwk] = first.privateJwks;
    if (!jwk) throw new Error('no key');
    const jwt = await new SignJWT({})
      .setProtectedHeader({ alg, kid: String(jwk.kid) })
      .sign(await importJWK(jwk, alg));
    const { protectedHeader } = await jwtVerify(jwt, second.verificationKeys, { algorithms: [alg] });
    expect(protectedHeader.alg).toBe(alg);
  });

  it('publishes the public members only, named by their thumbprint', async () => {
    const { jwks } = await load(alg);
    const { keys } = JSON.parse(jwks.body);
    expect(keys).toHaveLength(1);
    const { members, kty, crv } = shapes[alg];
    expect(Object.keys(keys[0]).sort()).toEqual(members);
    expect([keys[0].kty, keys[0].crv, keys[0].alg, keys[0].use]).toEqual([kty, crv, alg, 'sig']);
    expect(keys[0].kid).toBe(await calculateJwkThumbprint(keys[0]));
    if (kty === 'RSA') expect(Buffer.from(keys[0].n, 'base64url').length * 8).toBeGreaterThanOrEqual(2048);
  });
});

describe('signing keys in the database', () => {
  it('are one, however many instances start at once on an empty database', async () => {
    const sets = await Promise.all(Array.from({ length: 8 }, () => load()));
    expect(new Set(sets.map((set) => set.jwks.body)).size).toBe(1);
    const rows = await database.knex('signing_keys').select('kid');
    expect(rows).toHaveLength(1);
  });

  it('hold no private member in the clear', async () => {
    const { privateJwks } = await load();
    const rows = JSON.stringify(await database.knex('signing_keys').select('*'));
    expect(String(privateJwks[0]?.d)).toHaveLength(43);
    expect(rows).not.toContain(String(privateJwks[0]?.d));
    expect(rows).not.toContain('"d":');
  });

  it('that cannot be decrypted are an error that names the kid, never a new key', async () => {
    const { publicJwks } = await load();
    const wrong = load('ES256', [Buffer.alloc(32, 9)]);
    await expect(wrong).rejects.toThrow(SigningKeyError);
    await expect(wrong).rejects.toThrow(String(publicJwks[0]?.kid));
    await expect(wrong).rejects.toThrow('KEY_ENCRYPTION_KEY');
    expect(await database.knex('signing_keys').select('kid')).toHaveLength(1);
  });

  it('are found after the key encryption key was rotated', async () => {
    const before = await load();
    const after = await load('ES256', [Buffer.alloc(32, 9), kek]);
    expect(after.jwks.body).toBe(before.jwks.body);
  });
});
