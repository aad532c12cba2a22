import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHarness, exchange, type Harness } from '../support/harness.ts';

let harness: Harness;
let jwt: string;
beforeAll(async () => {
  harness = await createHarness();
  jwt = await harness.build.machineJwt();
});
afterAll(() => harness.close());

const requestId = (n: number) => `0000000000000000-${String(n).padStart(4, '0')}`;
async function send(method: string, path: string, body?: unknown, id = requestId(0)) {
  const response = await fetch(`${harness.url}/admin${path}`, {
    method,
    headers: {
      authorization: `Bearer ${jwt}`,
      'user-agent': 'audit-test',
      'x-request-id': id,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : {} };
}

describe('every route that changes something leaves an event with who, from where, by what and in which request', () => {
  const organization = async () => (await harness.build.organization()).id;
  const member = async () => {
    const organizationId = await organization();
    return { organizationId, userId: (await harness.build.user({ organizationId })).id };
  };
  const client = async () => (await harness.build.client(['introspect'])).id;
  /** By operation: a path with its parameters, a body, and what the events say. */
  const calls: Record<string, () => Promise<[path: string, body: unknown, ...events: object[]]>> = {
    createToken: async () => {
      const { organizationId, userId } = await member();
      const { id: service } = await harness.build.service();
      const body = { name: 'n', service, organization_id: organizationId, user_id: userId };
      return ['/tokens', body, { action: 'token.created', organization_id: organizationId }];
    },
    revokeToken: async () => {
      const { id } = await harness.build.platformToken();
      return [`/tokens/${id}`, undefined, { action: 'token.revoked', token_id: id }];
    },
    revokeTokens: async () => {
      const ids = [(await harness.build.platformToken()).id, (await harness.build.platformToken()).id].sort();
      const events = ids.map((id) => ({ action: 'token.revoked', token_id: id, reason: 'why' }));
      return ['/tokens/revoke', { ids, reason: 'why' }, ...events];
    },
    createOrganization: async () => ['/organizations', { name: 'n' }, { action: 'organization.created' }],
    changeOrganization: async () => {
      const id = await organization();
      return [
        `/organizations/${id}`,
        { status: 'inactive' },
        { action: 'organization.deactivated', target_id: id },
      ];
    },
    putMember: async () => {
      const id = await organization();
      const user = await harness.build.user();
      return [
        `/organizations/${id}/members/${user.id}`,
        { role: 'admin' },
        { organization_id: id, target_id: user.id },
      ];
    },
    removeMember: async () => {
      const { organizationId, userId } = await member();
      const token = await harness.build.platformToken({ organizationId, userId });
      return [
        `/organizations/${organizationId}/members/${userId}`,
        undefined,
        { action: 'membership.removed', target_id: userId },
        { action: 'token.revoked', token_id: token.id },
      ];
    },
    createUser: async () => ['/users', { email: 'audit@example.com', name: 'n' }, { action: 'user.created' }],
    changeUser: async () => {
      const { id } = await harness.build.user();
      return [`/users/${id}`, { name: 'm' }, { action: 'user.updated', target_id: id }];
    },
    createService: async () => {
      const body = { id: 'audited', name: 'n', audience: 'https://audited.example.com', scopes: ['a'] };
      return ['/services', body, { action: 'service.created', target_id: 'audited' }];
    },
    changeService: async () => {
      const { id } = await harness.build.service();
      return [`/services/${id}`, { name: 'm' }, { action: 'service.updated', target_id: id }];
    },
    createClient: async () => [
      '/clients',
      { name: 'n', grant_types: [], scope: 'introspect' },
      { action: 'client.created' },
    ],
    changeClient: async () => {
      const id = await client();
      return [`/clients/${id}`, { name: 'm' }, { action: 'client.updated', target_id: id }];
    },
    rotateClientSecret: async () => {
      const id = await client();
      return [`/clients/${id}/rotate-secret`, undefined, { target_id: id }];
    },
    deleteClient: async () => {
      const id = await client();
      return [`/clients/${id}`, undefined, { action: 'client.deleted', target_id: id }];
    },
    rotateSigningKeys: async () => [
      '/signing-keys/rotate',
      {},
      { action: 'signing_key.rotated', reason: null },
    ],
  };

  it('and these are all of them', async () => {
    const { body } = await send('GET', '/openapi.json');
    const operations = Object.values(body.paths as Record<string, Record<string, { operationId: string }>>)
      .flatMap((methods) => Object.entries(methods))
      .filter(([method]) => method !== 'get')
      .map(([, { operationId }]) => operationId);
    expect(Object.keys(calls).sort()).toEqual(operations.sort());
  });

  it.each(Object.entries(calls))('%s', async (operation, prepare) => {
    const [path, body, ...expected] = await prepare();
    const { paths } = (await send('GET', '/openapi.json')).body;
    const [method] = Object.values(paths as Record<string, Record<string, { operationId: string }>>)
      .flatMap((methods) => Object.entries(methods))
      .find(([, { operationId }]) => operationId === operation) as [string, unknown];
    const id = requestId(1 + Object.keys(calls).indexOf(operation));
    const { status } = await send(method.toUpperCase(), path, body, id);
    expect(status).toBeLessThan(300);
    const events = await harness.database
      .knex('audit_events')
      .where({ request_id: id })
      .orderBy(['action', 'token_id']);
    expect(events).toMatchObject(
      expected.map((one) => ({ actor_type: 'client', ip: '127.0.0.1', user_agent: 'audit-test', ...one })),
    );
    expect(events).toHaveLength(expected.length);
    // The list has it too.
    const { data } = (await send('GET', `/audit-events?action=${events[0].action}&limit=100`)).body;
    expect(data.find((event: { id: string }) => event.id === events[0].id)).toMatchObject({ request_id: id });
  });
});

describe('a token that is known and refused', () => {
  it('is in the trail with the reason, counted, for whoever sees the token; an unknown one and a bad request are not', async () => {
    const { build, database, stores, url } = harness;
    const day = 86_400_000;
    const revoked = await build.platformToken({ revokedAt: new Date() });
    const expired = await build.platformToken({
      createdAt: new Date(Date.now() - 2 * day),
      expiresAt: new Date(Date.now() - day),
    });
    const inactive = await build.platformToken();
    await database.knex('services').where({ id: inactive.service.id }).update({ status: 'inactive' });
    const good = await build.platformToken();
    for (let n = 0; n < 3; n += 1) await exchange(url, revoked.token);
    for (const { token } of [expired, inactive]) expect((await exchange(url, token)).status).toBe(400);
    expect((await exchange(url, good.token, { scope: 'more' })).status).toBe(400);
    for (const unknown of [good.token.replace(/.$/, '!'), 'nonsense']) await exchange(url, unknown);
    await stores.countedEvents.close();
    const trailOf = async (tokenId: string) =>
      (await send('GET', `/audit-events?token_id=${tokenId}&action=token.refused`)).body.data;
    const all = (await send('GET', '/audit-events?action=token.refused')).body;
    expect(all.total).toBe(3);
    for (const [{ id }, reason, count] of [
      [revoked, 'revoked', 3],
      [expired, 'expired', 1],
      [inactive, 'inactive', 1],
    ] as const)
      expect(await trailOf(id)).toMatchObject([
        { reason, count, actor: { type: 'token', id }, ip: '127.0.0.1' },
      ]);
    expect(await trailOf(good.id)).toEqual([]);
  });
});
