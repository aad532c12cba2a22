import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLocalJWKSet, jwtVerify } from 'jose';
import { describe, expect, it } from 'vitest';
import { createVerifier, VerificationError } from '../../../sdk/verifier/src/index.ts';
import { findPyJwt, verifyWithPyJwt } from './pyjwt.ts';
import { createVectorIssuer, jwks, settings, type Vector, vectors } from './vectors.ts';

const expected = (vector: Vector): boolean => vector.expect === 'accept';

/** Rules that are about more than one JWT and its registered claims, for which others need code of ours. */
const beyondJwt = [
  'scope',
  'revoked',
  'status_claim',
  'status_uri',
  'status_index',
  'status_list_unavailable',
  'size',
];

describe('the verifier', () => {
  it.each(vectors)(
    'says of "$name" what is expected, by the rule $rule',
    async ({ jwt, expect: wanted, rule, at }) => {
      const issuer = createVectorIssuer();
      const verifier = createVerifier({
        issuer: settings.issuer,
        audience: settings.audience,
        requiredScopes: settings.required_scopes,
        fetch: issuer.fetch,
        clock: () => at * 1000,
      });
      const outcome = await verifier.verify(jwt).catch((error: unknown) => error);
      if (wanted === 'accept') {
        expect(outcome).toMatchObject({ iss: settings.issuer, client_id: 'platform-tokens' });
      } else {
        expect(outcome).toBeInstanceOf(VerificationError);
        expect({
          error: (outcome as VerificationError).code,
          rule: (outcome as VerificationError).rule,
        }).toEqual({
          ...wanted,
          rule,
        });
      }
      // Whatever a token points to, nobody but its issuer is asked.
      for (const url of issuer.asked) expect(url).toMatch(/^https:\/\/id\.example\.com\/oauth\//);
    },
  );

  it('has a good vector for each algorithm, and names no vector twice', () => {
    expect(new Set(vectors.map(({ name }) => name)).size).toBe(vectors.length);
    for (const alg of ['ES256', 'RS256', 'PS256', 'EdDSA']) {
      expect(
        vectors.some(({ name, expect: wanted }) => name === `signed with ${alg}` && wanted === 'accept'),
      ).toBe(true);
    }
  });
});

/** Names of the vectors of a JWT's own rules where a library's verdict is another, but for those that it cannot express. */
const disagreements = (accepted: ReadonlySet<string>, cannot: readonly string[]): string[] =>
  vectors
    .filter(({ rule, name }) => !beyondJwt.includes(rule) && !cannot.includes(name))
    .filter((vector) => accepted.has(vector.name) !== expected(vector))
    .map(({ name }) => name);

/** Where base64url is read leniently, members may come twice (the last counts), and Ed25519 has its old name alone. */
const lenient = [
  'padded base64url',
  'base64 with + and /',
  'base64url with bits left over',
  'a header member twice',
  'a claim twice',
  'a claim twice, once in escapes',
  'signed with Ed25519, by its name of RFC 9864',
  // RFC 9068 requires these claims; their types are nobody's rule there.
  'client_id of another type',
  'sub of another type',
  'jti of another type',
  'sub empty',
  'scope an array',
];

it('agrees with jose alone on all that jose can express', async () => {
  const keys = createLocalJWKSet(jwks);
  const accepted = new Set<string>();
  for (const { name, jwt, at } of vectors) {
    const verified = jwtVerify(jwt, keys, {
      issuer: settings.issuer,
      audience: settings.audience,
      algorithms: settings.algorithms,
      typ: 'at+jwt',
      clockTolerance: settings.leeway,
      currentDate: new Date(at * 1000),
      requiredClaims: ['sub', 'client_id', 'jti', 'iat', 'exp'],
    });
    await verified.then(
      () => accepted.add(name),
      () => {},
    );
  }
  const cannot = [
    ...lenient,
    // A number among audiences is passed over.
    'aud an array with a number',
    // Looked at only with a greatest age.
    'iat in the future',
    'b64 false without crit',
    // One key of the set fits.
    'no kid',
  ];
  expect(disagreements(accepted, cannot)).toEqual([]);
  expect(accepted.size).toBeGreaterThan(10);
});

describe('PyJWT, as the README uses it,', () => {
  const python = findPyJwt();

  it.runIf(python)('agrees on all that it can express', () => {
    const accepted = new Set(verifyWithPyJwt(String(python)));
    const cannot = [
      ...lenient,
      // A key of PyJWT's does not know its algorithm.
      'RS256 with the key for PS256',
      // Taken as a number; the second by newer versions.
      'exp of another type',
      'iat of another type',
    ];
    expect(disagreements(accepted, cannot)).toEqual([]);
    expect(accepted.size).toBeGreaterThan(10);
  });
});

it('are made anew, byte for byte, by npm run vectors', () => {
  const copy = mkdtempSync(join(tmpdir(), 'platform-tokens-vectors-'));
  try {
    cpSync('sdk/vectors/make.ts', join(copy, 'make.ts'));
    cpSync('sdk/vectors/private-keys.json', join(copy, 'private-keys.json'));
    cpSync('package.json', join(copy, 'package.json'));
    symlinkSync(join(process.cwd(), 'node_modules'), join(copy, 'node_modules'));
    execFileSync(process.execPath, [join(copy, 'make.ts')]);
    for (const name of readdirSync('sdk/vectors').filter((file) => file.endsWith('.json'))) {
      expect(
        readFileSync(join(copy, name), 'utf8') === readFileSync(join('sdk/vectors', name), 'utf8'),
        name,
      ).toBe(true);
    }
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
});
