import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createHarness, exchange, type Harness } from '../support/harness.ts';

interface Answer {
  kid: string;
  type: string;
  data: object[];
  next_cursor: string | null;
}

let harness: Harness;
let machine: string;
beforeEach(async () => {
  // A lead of one second, so that a rotation can be watched.
  harness = await createHarness({ keyTimes: { jwksCopyAge: 0.5, refreshInterval: 0.25, clockSkew: 0.25 } });
  machine = await harness.build.machineJwt();
});
afterEach(() => harness.close());

const call = async (method: string, path: string, body?: unknown, as = machine) => {
  const response = await fetch(`${harness.url}/admin${path}`, {
    method,
    headers: {
      authorization: `Bearer ${as}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as Answer };
};
const rotate = (body?: unknown, as?: string) => call('POST', '/signing-keys/rotate', body, as);
const publishedKids = async (url = harness.url) => {
  const { keys } = (await (await fetch(`${url}/oauth/jwks`)).json()) as { keys: { kid: string }[] };
  return keys.map(({ kid }) => kid);
};
const signerOf = async (token: string, url = harness.url) => {
  const { access_token: jwt } = (await (await exchange(url, token)).json()) as { access_token: string };
  return { jwt, kid: String(decodeProtectedHeader(jwt).kid) };
};

describe('GET /admin/signing-keys', () => {
  it('lists the keys with their states, and no private half', async () => {
    const { status, body } = await call('GET', '/signing-keys');
    expect(status).toBe(200);
    const time = expect.stringMatching(/Z$/);
    expect(body).toEqual({
      data: [
        {
          kid: harness.keySet.publicJwks[0]?.kid,
          alg: 'ES256',
          state: 'current',
          published_at: time,
          activates_at: time,
          retires_at: null,
        },
      ],
      next_cursor: null,
      total: 1,
    });
  });

  it('is a list like every other', async () => {
    await rotate();
    const first = await call('GET', '/signing-keys?limit=1');
    expect(first.body).toMatchObject({ total: 2, data: [{ state: 'next' }] });
    const second = await call('GET', `/signing-keys?limit=1&cursor=${first.body.next_cursor}`);
    expect(second.body).toMatchObject({ next_cursor: null, data: [{ state: 'current' }] });
    expect((await call('GET', '/signing-keys?cursor=x')).status).toBe(400);
  });
});

describe('POST /admin/signing-keys/rotate', () => {
  it.each([undefined, {}, { reason: 'yearly drill' }])(
    'publishes the next key, which takes over by itself: %j',
    async (body) => {
      const { token } = await harness.build.platformToken();
      const before = await signerOf(token);
      const rotated = await rotate(body);
      expect(rotated.status).toBe(201);
      expect(rotated.body).toMatchObject({ state: 'next', alg: 'ES256', retires_at: null });
      expect(await publishedKids()).toEqual([before.kid, rotated.body.kid]);
      expect((await signerOf(token)).kid).toBe(before.kid);
      await expect.poll(async () => (await signerOf(token)).kid).toBe(rotated.body.kid);
      const { body: list } = await call('GET', '/signing-keys');
      expect(list.data).toMatchObject([
        { kid: rotated.body.kid, state: 'current' },
        { kid: before.kid, state: 'previous', retires_at: expect.any(String) },
      ]);
      // What the former key signed is still good, for verifiers and here.
      const keys = createRemoteJWKSet(new URL(`${harness.url}/oauth/jwks`));
      await jwtVerify(before.jwt, keys, { issuer: harness.issuer });
      expect((await call('GET', '/me')).status).toBe(404);
      const events = await call('GET', '/audit-events?action=signing_key.rotated');
      expect(events.body.data).toMatchObject([{ target_id: rotated.body.kid, reason: body?.reason ?? null }]);
    },
  );

  it('reaches the other instance without a restart', async () => {
    const other = await harness.another();
    try {
      const { token } = await harness.build.platformToken();
      const { body } = await rotate();
      await expect.poll(() => publishedKids(other.url)).toContain(body.kid);
      await expect.poll(async () => (await signerOf(token, other.url)).kid).toBe(body.kid);
    } finally {
      await other.close();
    }
  });

  it('refuses a second one while the first waits', async () => {
    await rotate();
    const { status, body } = await rotate();
    expect(status).toBe(409);
    expect(body.type).toMatch(/rotation-pending$/);
  });

  it('refuses a time that is too early for verifiers, and what does not validate', async () => {
    const early = await rotate({ activates_at: new Date().toISOString() });
    expect(early.status).toBe(422);
    expect(early.body.type).toMatch(/key-schedule-unsafe$/);
    for (const body of [
      { emergency: 'yes' },
      { kid: 'x' },
      { emergency: true, activates_at: '2030-01-01T00:00:00Z' },
    ])
      expect((await rotate(body)).status).toBe(422);
    expect(await publishedKids()).toHaveLength(1);
  });

  it('in an emergency signs by the new key at once, and everything older is refused', async () => {
    const { token } = await harness.build.platformToken();
    const before = await signerOf(token);
    const { status, body } = await rotate({ emergency: true, reason: 'key leaked' });
    expect(status).toBe(201);
    expect(body).toMatchObject({ state: 'current' });
    expect(await publishedKids()).toEqual([body.kid]);
    const after = await signerOf(token);
    expect(after.kid).toBe(body.kid);
    const keys = createRemoteJWKSet(new URL(`${harness.url}/oauth/jwks`));
    await jwtVerify(after.jwt, keys, { issuer: harness.issuer });
    await expect(jwtVerify(before.jwt, keys, { issuer: harness.issuer })).rejects.toThrow();
    // The administrator's own access token is one of those.
    expect((await call('GET', '/signing-keys')).status).toBe(401);
  });

  it('is for machine administrators', async () => {
    const user = await harness.build.user({
      organizationId: (await harness.build.organization()).id,
      role: 'admin',
    });
    const jwt = await harness.build.userJwt(user.id);
    expect((await rotate(undefined, jwt)).status).toBe(403);
    expect((await call('GET', '/signing-keys', undefined, jwt)).status).toBe(403);
  });
});
