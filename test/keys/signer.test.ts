import { generateKeyPairSync, sign, verify } from 'node:crypto';
import fc from 'fast-check';
import { exportJWK, generateKeyPair, importJWK, jwtVerify } from 'jose';
import { describe, expect, it } from 'vitest';
import { createSigner, toConcatenated } from '../../server/keys/signer.ts';

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');

describe.each(['ES256', 'RS256', 'PS256', 'EdDSA'] as const)('a signer for %s', (alg) => {
  it('makes signatures that jose verifies, and only over what was signed', async () => {
    const { privateKey, publicKey } = await generateKeyPair(alg, {
      extractable: true,
      ...(alg === 'EdDSA' ? { crv: 'Ed25519' } : {}),
    });
    const sign = createSigner(await exportJWK(privateKey), alg);
    const input = `${encode({ alg })}.${encode({ sub: 'somebody' })}`;
    const signature = (await sign(Buffer.from(input))).toString('base64url');

    const key = await importJWK(await exportJWK(publicKey), alg);
    const { payload } = await jwtVerify(`${input}.${signature}`, key, { algorithms: [alg] });
    expect(payload.sub).toBe('somebody');
    const other = `${encode({ alg })}.${encode({ sub: 'another' })}`;
    await expect(jwtVerify(`${other}.${signature}`, key)).rejects.toThrow('signature verification failed');
  });
});

describe('an ECDSA signature as r || s', () => {
  // DER leaves out leading zeros, and puts one before a high bit: one signature in 128 is short.
  const integer = fc.oneof(
    fc.uint8Array({ minLength: 32, maxLength: 32 }),
    fc.uint8Array({ minLength: 1, maxLength: 3 }),
  );
  const toDer = (digits: Uint8Array) => {
    const start = digits.findIndex((byte) => byte !== 0);
    const shortest = start < 0 ? Buffer.of(0) : Buffer.from(digits.subarray(start));
    const signed = (shortest[0] ?? 0) > 127 ? Buffer.concat([Buffer.of(0), shortest]) : shortest;
    return Buffer.concat([Buffer.of(2, signed.length), signed]);
  };
  const padded = (digits: Uint8Array) => Buffer.concat([Buffer.alloc(32 - digits.length), digits]);

  it('keeps both numbers, however short', () => {
    fc.assert(
      fc.property(integer, integer, (r, s) => {
        const integers = Buffer.concat([toDer(r), toDer(s)]);
        const der = Buffer.concat([Buffer.of(0x30, integers.length), integers]);
        expect(toConcatenated(der)).toEqual(Buffer.concat([padded(r), padded(s)]));
      }),
    );
  });

  it('is verified as one', () => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const data = Buffer.from('signed');
    for (let n = 0; n < 1_000; n += 1) {
      const signature = toConcatenated(sign('sha256', data, privateKey));
      expect(verify('sha256', data, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true);
    }
  });
});
