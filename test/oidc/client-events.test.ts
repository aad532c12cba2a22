import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { createClientSecret } from '../../server/domain/client-secret.ts';
import { basic, createHarness, exchange, type Harness, postForm } from '../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness({ env: { TRUST_PROXY: 'true', RATE_LIMITS: 'off' } });
});
afterAll(() => harness.close());
beforeEach(async () => {
  await written();
  since = new Date();
});

let since: Date;
const written = () => harness.stores.countedEvents.close();

async function events() {
  await written();
  return harness.database
    .knex('audit_events')
    .where('at', '>=', since)
    .whereLike('action', 'client.%')
    .orderBy('ip')
    .select('action', 'actor_type', 'actor_id', 'target_id', 'reason', 'count', 'ip', 'user_agent');
}

const ask = (id: string, secret: string, address: string) =>
  postForm(
    harness.url,
    { grant_type: 'client_credentials', scope: 'admin' },
    { ...basic(id, secret), 'x-forwarded-for': address, 'user-agent': 'terraform/1' },
  );

it('counts the access tokens that a client has for itself, by its address', async () => {
  const { id, secret } = await harness.build.client(['admin']);
  for (const address of ['192.0.2.1', '192.0.2.1', '192.0.2.1', '192.0.2.2'])
    expect((await ask(id, secret, address)).status).toBe(200);
  expect((await ask(id, secret, '192.0.2.3')).status).toBe(200);
  const issued = { action: 'client.token_issued', actor_type: 'client', actor_id: id, target_id: null };
  expect(await events()).toEqual(
    [
      ['192.0.2.1', 3],
      ['192.0.2.2', 1],
      ['192.0.2.3', 1],
    ].map(([ip, count]) => ({ ...issued, reason: null, count, ip, user_agent: 'terraform/1' })),
  );
});

it('counts none for what was not issued, nor for other grants', async () => {
  const { id, secret } = await harness.build.client(['admin']);
  const wish = { grant_type: 'client_credentials', scope: 'more' };
  expect((await postForm(harness.url, wish, basic(id, secret))).status).toBe(400);
  const { token } = await harness.build.platformToken();
  expect((await exchange(harness.url, token)).status).toBe(200);
  expect(await events()).toEqual([]);
});

it.each([
  ['/oauth/token', { grant_type: 'client_credentials', scope: 'admin' }],
  ['/oauth/introspect', { token: 'x' }],
  ['/oauth/revoke', { token: 'x' }],
])('counts wrong credentials of a client at %s, and those of nobody not at all', async (path, form) => {
  const { id } = await harness.build.client(['admin', 'introspect']);
  const other = createClientSecret().secret;
  const present = async (clientId: string) => {
    const { status } = await fetch(harness.url + path, {
      method: 'POST',
      headers: { ...basic(clientId, other), 'x-forwarded-for': '192.0.2.9' },
      body: new URLSearchParams(form),
    });
    expect(status).toBe(401);
  };
  await present(id);
  await present(id);
  // A secret in the place of an id is kept nowhere.
  await present(other);
  expect(await events()).toEqual([
    expect.objectContaining({
      action: 'client.refused',
      actor_type: 'system',
      actor_id: 'client-authentication',
      target_id: id,
      reason: 'wrong credentials',
      count: 2,
      ip: '192.0.2.9',
    }),
  ]);
  expect(JSON.stringify(await harness.database.knex('audit_events'))).not.toContain(other);
  expect(harness.logs()).not.toContain(other);
});
