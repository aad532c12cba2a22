import { exportJWK, generateKeyPair, importJWK, jwtVerify } from 'jose';
import { describe, expect, it } from 'vitest';
import { createSigner } from '../../server/keys/signer.ts';

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
