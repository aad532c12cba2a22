import { createLocalJWKSet, decodeProtectedHeader, type JSONWebKeySet, jwtVerify } from 'jose';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createHarness, exchange, type Harness, postForm } from '../support/harness.ts';

/**
 * A minute of exchanges on two instances while the keys rotate five times. A minute of the product's is 0.6 s here: so a
 * copy of the JWKS may be 6 s old, and rotations that are 13 months apart come every 10 s.
 */
const minuteMs = 600;
const times = {
  jwksCopyAge: (10 * minuteMs) / 1000,
  refreshInterval: (0.5 * minuteMs) / 1000,
  clockSkew: minuteMs / 1000,
  accessTokenLifetime: (10 * minuteMs) / 1000,
};
const durationMs = 60_000;

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness({ keyTimes: times, env: { RATE_LIMITS: 'off' } });
});
afterAll(() => harness.close());

/** Keeps its copy of the JWKS for so long, and asks for no other in between: the strictest that a verifier can be. */
function createVerifier(url: string, cacheMs: number) {
  let copy: { keys: ReturnType<typeof createLocalJWKSet>; until: number } | undefined;
  let reading: Promise<void> | undefined;
  async function read(): Promise<void> {
    const jwks = (await (await fetch(`${url}/oauth/jwks`)).json()) as JSONWebKeySet;
    copy = { keys: createLocalJWKSet(jwks), until: Date.now() + cacheMs };
  }
  return async (jwt: string): Promise<void> => {
    if (!copy || Date.now() >= copy.until) {
      reading ??= read().finally(() => {
        reading = undefined;
      });
      await reading;
    }
    if (!copy) throw new Error('no copy');
    await jwtVerify(jwt, copy.keys, { issuer: harness.issuer, typ: 'at+jwt' });
  };
}

it('rotates five times in a minute of exchanges on two instances, one restarted, without one failed verification', {
  timeout: 120_000,
}, async () => {
  const { token } = await harness.build.platformToken();
  const administrator = await harness.build.client(['admin']);
  const jwks = (url: string) => [1, 5, 10].map((minutes) => createVerifier(url, minutes * minuteMs));
  let other = await harness.another();
  // Each instance's verifiers read from that instance, and see the tokens of both.
  const verifiers = [...jwks(harness.url), ...jwks(harness.url)];
  const failures: string[] = [];
  const signers = new Set<string>();
  let exchanges = 0;
  let verifications = 0;

  async function verify(jwt: string, when: string): Promise<void> {
    for (const verifier of verifiers) {
      verifications += 1;
      await verifier(jwt).catch((error) =>
        failures.push(`${when}: ${decodeProtectedHeader(jwt).kid} ${(error as Error).message}`),
      );
    }
  }

  const later: Promise<void>[] = [];
  async function work(instance: () => string): Promise<void> {
    while (Date.now() < end) {
      let response: Response;
      try {
        response = await exchange(instance(), token);
      } catch {
        // The instance that is being restarted: its clients go elsewhere.
        await new Promise((resolve) => setTimeout(resolve, 50));
        continue;
      }
      const { access_token: jwt } = (await response.json()) as { access_token: string };
      exchanges += 1;
      signers.add(String(decodeProtectedHeader(jwt).kid));
      await verify(jwt, 'at once');
      // …and at the end of its (scaled) life.
      if (exchanges % 10 === 0) {
        const wait = times.accessTokenLifetime * 1000;
        later.push(
          new Promise((resolve) => setTimeout(resolve, wait)).then(() =>
            verify(jwt, 'at the end'),
          ) as Promise<void>,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  const end = Date.now() + durationMs;
  const workers = [
    work(() => harness.url),
    work(() => harness.url),
    work(() => other.url),
    work(() => other.url),
  ];
  let rotations = 0;
  let restarts = 0;
  while (rotations < 5 && Date.now() < end - 10_000) {
    const { access_token: machine } = (await (
      await postForm(harness.url, {
        grant_type: 'client_credentials',
        client_id: administrator.id,
        client_secret: administrator.secret,
        scope: 'admin',
      })
    ).json()) as { access_token: string };
    const { status } = await fetch(`${rotations % 2 ? harness.url : other.url}/admin/signing-keys/rotate`, {
      method: 'POST',
      headers: { authorization: `Bearer ${machine}` },
    });
    if (status === 201) rotations += 1;
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    if (rotations === 3 && restarts === 0) {
      await other.close();
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      other = await harness.another();
      restarts += 1;
    }
    await new Promise((resolve) => setTimeout(resolve, 4_000));
  }
  await Promise.all(workers);
  await Promise.all(later);
  await other.close();

  expect(failures).toEqual([]);
  expect({ rotations, restarts }).toEqual({ rotations: 5, restarts: 1 });
  // The first key, and each that took over.
  expect(signers.size).toBe(6);
  expect(exchanges).toBeGreaterThan(500);
  expect(verifications).toBeGreaterThan(exchanges * verifiers.length - 1);
});
