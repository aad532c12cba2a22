import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { policy } from '../../../config/policy.ts';
import { createVerifier, VerificationError } from '../../../sdk/verifier/src/index.ts';
import { createHarness, exchange, type Harness } from '../../support/harness.ts';

let harness: Harness;
let second: Awaited<ReturnType<Harness['another']>>;
beforeAll(async () => {
  harness = await createHarness();
  second = await harness.another();
});
afterAll(async () => {
  await second.close();
  await harness.close();
});

/** The service's verifier, whose issuer is reached at one of its instances. */
function createApi(audience: string, url: string, clock = Date.now) {
  return createVerifier({
    issuer: harness.issuer,
    audience,
    allowHttp: true,
    clock,
    fetch: (input, init) => fetch(String(input).replace(harness.issuer, url), init),
  });
}

async function exchanged(token: string): Promise<string> {
  const { access_token: jwt } = (await (await exchange(harness.url, token)).json()) as {
    access_token: string;
  };
  return jwt;
}

const remove = async (id: string): Promise<void> => {
  const authorization = `Bearer ${await harness.build.machineJwt()}`;
  const response = await fetch(`${harness.url}/admin/tokens/${id}`, {
    method: 'DELETE',
    headers: { authorization },
  });
  expect(response.status).toBe(204);
};

const ruleOf = (verified: Promise<unknown>): Promise<string> =>
  verified.then(
    () => 'accepted',
    (error: unknown) => (error instanceof VerificationError ? error.rule : Promise.reject(error)),
  );

it('verifies what the server issues, and refuses what it issued for others', async () => {
  const { token, service, id, organizationId, userId } = await harness.build.platformToken();
  const jwt = await exchanged(token);
  const claims = await createApi(service.audience, harness.url).verify(jwt, { requiredScopes: ['read'] });
  expect(claims).toMatchObject({ sub: userId, org_id: organizationId, token_id: id, scope: 'read write' });
  expect(await ruleOf(createApi('https://other.example.com', harness.url).verify(jwt))).toBe('aud');
  expect(await ruleOf(createApi(service.audience, harness.url).verify(token))).toBe('format');
});

it.each(['ES256', 'RS256', 'PS256', 'EdDSA'])('verifies tokens and lists signed with %s', async (alg) => {
  const other = await createHarness({ env: { SIGNING_ALG: alg } });
  try {
    const { token, service } = await other.build.platformToken();
    const { access_token: jwt } = (await (await exchange(other.url, token)).json()) as {
      access_token: string;
    };
    const verifier = createVerifier({
      issuer: other.issuer,
      audience: service.audience,
      algorithms: [alg as 'ES256'],
      allowHttp: true,
      fetch: (input, init) => fetch(String(input).replace(other.issuer, other.url), init),
    });
    expect((await verifier.verify(jwt)).status?.status_list.uri).toContain('/oauth/status-lists/');
  } finally {
    await other.close();
  }
});

it('refuses a token within ttl and 15 s of its deletion, by either instance, at the worst of moments', async () => {
  const { token, service, id } = await harness.build.platformToken();
  const bystander = await harness.build.platformToken({ service });
  const [jwt, other] = [await exchanged(token), await exchanged(bystander.token)];
  // The verifiers' ttl goes by on a clock that is put forward; what the server takes is real.
  let ahead = 0;
  const apis = [harness.url, second.url].map((url) =>
    createApi(service.audience, url, () => Date.now() + ahead * 1000),
  );
  const rules = () => Promise.all(apis.map((api) => ruleOf(api.verify(jwt))));
  expect(await rules()).toEqual(['accepted', 'accepted']);
  await remove(id);
  const deletedAt = Date.now();
  // Both fetch their lists once more, while the instances still go by what they have: the newest of old copies.
  const fetched = policy.statusListTtl + 1;
  ahead = fetched;
  expect(await rules()).toEqual(['accepted', 'accepted']);
  await sleep(policy.statusListMaxAge * 1000);

  const refusedAfter: (number | undefined)[] = [undefined, undefined];
  while (refusedAfter.includes(undefined) && ahead < 3 * fetched) {
    const now = await rules();
    const seconds = (Date.now() - deletedAt) / 1000 + ahead - fetched;
    for (const [i, rule] of now.entries()) if (rule === 'revoked') refusedAfter[i] ??= seconds;
    ahead += 0.5;
    await sleep(10);
  }
  for (const seconds of refusedAfter) expect(seconds).toBeLessThanOrEqual(policy.statusListTtl + 15);
  // As late as that: the copies were old ones, and the background asked before their ttl was over.
  for (const seconds of refusedAfter) expect(seconds).toBeGreaterThan(policy.statusListTtl / 2);
  for (const api of apis) expect(await ruleOf(api.verify(other))).toBe('accepted');
});
