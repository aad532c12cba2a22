import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createHarness, exchange, type Harness } from '../support/harness.ts';

interface Media {
  schema: object;
}
interface Operation {
  operationId: string;
  description: string;
  responses: Record<
    string,
    {
      description: string;
      headers?: Record<string, Media & { required?: boolean }>;
      content?: Record<string, Media>;
    }
  >;
}
type Document = {
  openapi: string;
  servers: { url: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: { securitySchemes: object };
};

let harness: Harness;
let machine: string;
let document: Document;
let ajv: Ajv2020;
const statuses: number[] = [];
const called = new Set<string>();

beforeAll(async () => {
  harness = await createHarness();
  machine = await harness.build.machineJwt();
  document = (await (await fetch(`${harness.url}/admin/openapi.json`)).json()) as Document;
  ajv = new Ajv2020({ strict: false, allErrors: true });
  (addFormats as unknown as (instance: Ajv2020) => void)(ajv);
  ajv.addSchema(document, 'https://document.test/');
});
afterAll(async () => {
  expect(statuses).not.toContain(500);
  await harness.close();
});

const escapePointer = (text: string) => text.replaceAll('~', '~0').replaceAll('/', '~1');

/** Calls a route of the document, and holds the answer against the schema that the document gives for it. */
async function call(
  method: string,
  template: string,
  {
    params = {},
    query = '',
    body,
    as = machine,
  }: { params?: Record<string, string>; query?: string; body?: unknown; as?: string | null } = {},
) {
  const operation = document.paths[template]?.[method];
  if (!operation) throw new Error(`the document lacks ${method} ${template}`);
  const path = template.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(params[name])));
  const response = await fetch(`${harness.url}${path}${query && `?${query}`}`, {
    method: method.toUpperCase(),
    headers: {
      ...(as === null ? {} : { authorization: `Bearer ${as}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  statuses.push(response.status);
  const text = await response.text();
  const where = `${method} ${template} ${response.status}`;
  const described = operation.responses[String(response.status)];
  expect(described, `${where} is not described`).toBeDefined();
  if (!described?.content) {
    expect([where, text]).toEqual([where, '']);
  } else {
    const type = String(response.headers.get('content-type')).split(';')[0] ?? '';
    expect(Object.keys(described.content), where).toContain(type);
    const reference = [
      'paths',
      template,
      method,
      'responses',
      String(response.status),
      'content',
      type,
      'schema',
    ];
    const validate = ajv.compile({
      $ref: `https://document.test/#/${reference.map(escapePointer).map(encodeURIComponent).join('/')}`,
    });
    const valid = validate(JSON.parse(text));
    expect([where, valid, validate.errors]).toEqual([where, true, null]);
  }
  const fields = Object.entries(described?.headers ?? {});
  const missing = fields.filter(([name, { required }]) => required && !response.headers.has(name));
  expect([where, missing]).toEqual([where, []]);
  const names = fields.map(([name]) => name.toLowerCase());
  const unnamed = ofRoutes.filter((name) => response.headers.has(name) && !names.includes(name));
  expect([where, unnamed]).toEqual([where, []]);
  called.add(operation.operationId);
  const location = response.headers.get('location');
  return { status: response.status, location, body: text ? JSON.parse(text) : undefined };
}

/** Fields that say something of the route's answer, not of every one of the server's. */
const ofRoutes = [
  'allow',
  'link',
  'location',
  'ratelimit',
  'ratelimit-policy',
  'retry-after',
  'www-authenticate',
];

it('is an OpenAPI 3.1 document, to be read without a credential', async () => {
  const response = await fetch(`${harness.url}/admin/openapi.json`);
  expect([response.status, response.headers.get('content-type')]).toEqual([
    200,
    expect.stringMatching(/^application\/json/),
  ]);
  const head = await fetch(`${harness.url}/admin/openapi.json`, { method: 'HEAD' });
  expect([head.status, await head.text()]).toEqual([200, '']);
  expect(document.openapi).toMatch(/^3\.1\.\d+$/);
  expect(document.servers).toEqual([{ url: 'http://issuer.test' }]);
  expect(document.components.securitySchemes).toHaveProperty('bearer');
});

it('gives every operation an id of its own, a summary, a success and the errors of every route', () => {
  const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods));
  expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
  for (const { operationId, responses } of operations) {
    const codes = Object.keys(responses);
    expect([operationId, codes.filter((code) => code.startsWith('2')).length]).toEqual([operationId, 1]);
    expect(codes).toEqual(expect.arrayContaining(['401', '403', '503']));
  }
});

it('declares every parameter of every path', () => {
  for (const [path, methods] of Object.entries(document.paths)) {
    const wanted = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
    for (const operation of Object.values(methods) as (Operation & {
      parameters?: { name: string; in: string; required: boolean }[];
    })[]) {
      const declared = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path');
      expect(declared.map(({ name }) => name)).toEqual(wanted);
      expect(declared.every(({ required }) => required)).toBe(true);
    }
  }
});

it('describes the Link header of every list, and of nothing else', () => {
  const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods));
  const linked = operations.filter(({ responses }) => responses['200']?.headers?.Link);
  const lists = operations.filter(({ operationId }) => operationId.startsWith('list'));
  expect(lists.length).toBeGreaterThanOrEqual(7);
  expect(linked).toEqual(lists);
  for (const { responses } of linked) {
    expect(responses['200']?.headers?.Link).toMatchObject({
      description: expect.stringContaining('RFC 8288'),
      schema: { type: 'string' },
    });
  }
});

it.each<[string, object]>([
  ['organizations', { name: 'Acme' }],
  ['users', { email: 'located@example.com', name: 'Located' }],
  ['services', { id: 'located', name: 'L', audience: 'https://located.example.com', scopes: ['read'] }],
  ['clients', { name: 'L', grant_types: ['client_credentials'], scope: 'admin' }],
])('says where one of the %s is that was created', async (list, body) => {
  const created = await call('post', `/admin/${list}`, { body });
  expect(created.location).toMatch(/^http:\/\/issuer\.test\/admin\//);
  const { pathname } = new URL(String(created.location));
  const found = await fetch(harness.url + pathname, { headers: { authorization: `Bearer ${machine}` } });
  const { client_secret: _, ...there } = created.body;
  expect([found.status, await found.json()]).toEqual([200, there]);
});

it('describes the fields of a write too many', async () => {
  const limited = await createHarness({ env: { RATE_LIMIT_OVERRIDES: 'admin-writes-client=1/60' } });
  const headers = {
    authorization: `Bearer ${await limited.build.machineJwt()}`,
    'content-type': 'application/json',
  };
  const send = () =>
    fetch(`${limited.url}/admin/organizations`, { method: 'POST', headers, body: '{"name":"A"}' });
  await send();
  const refused = await send();
  expect(refused.status).toBe(429);
  const described = document.paths['/admin/organizations']?.post?.responses['429']?.headers ?? {};
  expect(Object.keys(described).sort()).toEqual(['RateLimit', 'RateLimit-Policy', 'Retry-After']);
  for (const name of Object.keys(described))
    expect([name, refused.headers.get(name)]).toEqual([name, expect.any(String)]);
  await limited.close();
});

it('describes what every route answers, from success to refusal', async () => {
  const organization = await call('post', '/admin/organizations', { body: { name: 'Acme' } });
  expect(organization.status).toBe(201);
  const id = organization.body.id as string;
  await call('post', '/admin/organizations', { body: { name: '' } });
  await call('post', '/admin/organizations', { body: '{' });
  await call('post', '/admin/organizations', { body: { name: 'x'.repeat(70_000) } });
  expect((await call('get', '/admin/organizations', { query: 'limit=1' })).status).toBe(200);
  await call('get', '/admin/organizations', { query: 'limit=0' });
  expect((await call('get', '/admin/organizations/{id}', { params: { id } })).status).toBe(200);
  expect(
    (await call('patch', '/admin/organizations/{id}', { params: { id }, body: { name: 'New' } })).status,
  ).toBe(200);

  const user = await call('post', '/admin/users', {
    body: { email: 'a@example.com', name: 'Ann', password: 'long enough' },
  });
  expect((await call('post', '/admin/users', { body: { email: 'A@example.com', name: 'Ann' } })).status).toBe(
    409,
  );
  await call('post', '/admin/users', {
    body: { email: 'bot@example.com', name: 'Bot', kind: 'service_account' },
  });
  const userId = user.body.id as string;
  expect((await call('get', '/admin/users', { query: 'q=ann' })).body.total).toBe(1);
  await call('get', '/admin/users/{id}', { params: { id: userId } });
  await call('patch', '/admin/users/{id}', { params: { id: userId }, body: { name: 'Bea' } });
  expect(
    (await call('patch', '/admin/users/{id}', { params: { id: userId }, body: { email: 'bot@example.com' } }))
      .status,
  ).toBe(409);
  const member = { id, user_id: userId };
  expect(
    (
      await call('put', '/admin/organizations/{id}/members/{user_id}', {
        params: member,
        body: { role: 'admin' },
      })
    ).status,
  ).toBe(200);
  await call('put', '/admin/organizations/{id}/members/{user_id}', { params: member, body: { role: 'x' } });
  expect((await call('get', '/admin/organizations/{id}/members', { params: { id } })).body.total).toBe(1);

  const service = {
    id: 'strings',
    name: 'Strings',
    audience: 'https://strings.example.com',
    scopes: ['read'],
  };
  expect((await call('post', '/admin/services', { body: service })).status).toBe(201);
  expect((await call('post', '/admin/services', { body: service })).status).toBe(409);
  await call('get', '/admin/services');
  await call('get', '/admin/services/{id}', { params: { id: 'strings' } });
  await call('patch', '/admin/services/{id}', { params: { id: 'strings' }, body: { name: 'S' } });

  const client = await call('post', '/admin/clients', {
    body: { name: 'C', grant_types: ['client_credentials'], scope: 'admin' },
  });
  expect(client.status).toBe(201);
  const clientParams = { client_id: client.body.client_id as string };
  await call('get', '/admin/clients');
  await call('get', '/admin/clients/{client_id}', { params: clientParams });
  await call('patch', '/admin/clients/{client_id}', { params: clientParams, body: { service: 'strings' } });
  expect(
    (await call('post', '/admin/clients/{client_id}/rotate-secret', { params: clientParams })).status,
  ).toBe(200);
  expect((await call('delete', '/admin/clients/{client_id}', { params: clientParams })).status).toBe(204);

  const as = await harness.build.userJwt(userId);
  expect((await call('get', '/admin/me', { as })).body.memberships).toHaveLength(1);
  expect((await call('get', '/admin/me')).status).toBe(404);
  const token = await call('post', '/admin/tokens', { as, body: { name: 'CI', service: 'strings' } });
  expect(token.status).toBe(201);
  expect((await exchange(harness.url, token.body.token)).status).toBe(200);
  await expect
    .poll(
      async () =>
        (await call('get', '/admin/tokens/{id}', { params: { id: token.body.id } })).body.last_used_at,
      { timeout: 5000 },
    )
    .not.toBeNull();
  await call('post', '/admin/tokens', { body: {} });
  for (let n = 0; n < 19; n += 1)
    await call('post', '/admin/tokens', { as, body: { name: `n${n}`, service: 'strings' } });
  expect((await call('post', '/admin/tokens', { as, body: { name: 'x', service: 'strings' } })).status).toBe(
    409,
  );
  expect(
    (await call('get', '/admin/tokens', { query: 'limit=5&status=active&status=revoked&sort=name' })).body
      .data,
  ).toHaveLength(5);
  await call('get', '/admin/tokens', { query: 'sort=x' });
  expect((await call('delete', '/admin/tokens/{id}', { params: { id: token.body.id } })).status).toBe(204);
  await call('get', '/admin/tokens/{id}', { params: { id: token.body.id } });
  expect(
    (await call('post', '/admin/tokens/revoke', { body: { ids: [uuidv7()] } })).body.not_found,
  ).toHaveLength(1);
  expect(
    (await call('post', '/admin/tokens/revoke', { body: { user_id: userId, reason: 'gone' } })).body.revoked,
  ).toBe(19);
  expect((await call('post', '/admin/tokens/revoke', { body: {} })).status).toBe(422);
  expect(
    (await call('delete', '/admin/organizations/{id}/members/{user_id}', { params: member })).status,
  ).toBe(204);
  expect((await call('get', '/admin/audit-events', { query: 'limit=100' })).body.data.length).toBeGreaterThan(
    40,
  );
  await call('get', '/admin/audit-events', { query: 'from=x' });

  // The rest of the document's routes: those that another section of the contract brings.
  for (const path of ['/admin/signing-keys', '/admin/signing-keys/rotate']) {
    for (const method of Object.keys(document.paths[path] ?? {})) await call(method, path);
  }

  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, { operationId, description }] of Object.entries(methods)) {
      const params = { id: uuidv7(), user_id: uuidv7(), client_id: uuidv7() };
      expect([operationId, called.has(operationId)]).toEqual([operationId, true]);
      expect((await call(method, path, { params, as: null })).status).toBe(401);
      const powerless = await harness.build.userJwt(userId, 'openid');
      const answer = await call(method, path, { params, as: powerless });
      expect([operationId, answer.status === 403]).toEqual([operationId, description !== 'Any caller.']);
      if (/\{/.test(path))
        await call(method, path, {
          params,
          ...(['put', 'patch'].includes(method) ? { body: { role: 'member' } } : {}),
        });
    }
  }
});
