import fc from 'fast-check';
import { v7 as uuidv7 } from 'uuid';
import type { Scene } from './scene.ts';
import type { Schema } from './surface.ts';

/** Whom a request may be about: what must stay as it is, or what may be ended. */
export type Cast = Scene['stable'];

/** One of these, whichever are there when it is made. */
export function oneOf<T>(list: () => readonly T[]): fc.Arbitrary<T> {
  return fc.nat().map((number) => {
    const present = list();
    return present[number % Math.max(1, present.length)] as T;
  });
}

/** Any of the secrets of the run: presented where none belongs, it must not come back or be logged. */
export function secret(scene: Scene): fc.Arbitrary<string> {
  return oneOf(() => [
    scene.stable.tokens[0]?.token ?? '',
    scene.machine.secret,
    scene.callers.machine,
    ...scene.accessTokens.items.slice(0, 2),
    ...scene.refreshTokens.items.slice(0, 2),
    ...scene.codes.items.slice(0, 2),
    `Bearer ${scene.callers.admin}`,
    `Basic ${Buffer.from(`x:${scene.introspector.secret}`).toString('base64')}`,
  ]);
}

const nasties = [
  '',
  ' ',
  '\0',
  '%00',
  '%',
  '_',
  '\\',
  "' OR 1=1 --",
  '"; DROP TABLE users; --',
  '\r\nX-Injected: 1',
  '../../../etc/passwd',
  '<script>alert(1)</script>',
  '{{7*7}}',
  '#{jndi:ldap://x}',
  '__proto__',
  'constructor',
  'toString',
  'null',
  'undefined',
  'NaN',
  '-1',
  '1e308',
  '99999999999999999999999',
  '\ud800',
  '\u202e\u200b\ufeff',
  'ａｄｍｉｎ',
  'İ',
  'ß'.repeat(50),
  '🧑‍🤝‍🧑'.repeat(20),
  'a'.repeat(65),
  'a'.repeat(1025),
  `${'a'.repeat(40)}!`,
  `${'a@'.repeat(40)}`,
  `${'%2e'.repeat(100)}`,
  '2026-02-30T00:00:00Z',
  '0000-00-00T00:00:00Z',
  '9999-12-31T23:59:59.999999999Z',
  '+275760-09-13T00:00:00.001Z',
  '00000000-0000-0000-0000-000000000000',
  'ffffffff-ffff-ffff-ffff-ffffffffffff',
];
const long = [5_000, 20_000, 70_000].map((length) => 'a'.repeat(length));

/** What is in it is read before anybody looks at the signature. */
function unsignedJwt(text: string): string {
  const claims = { iss: text, sub: text, aud: text, client_id: text, kid: text };
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'ES256', kid: text })}.${part(claims)}.`;
}

/** Text that nobody expects. */
export function hostileText(scene: Scene): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...nasties) },
    { weight: 3, arbitrary: fc.string({ maxLength: 12 }) },
    { weight: 3, arbitrary: fc.string({ unit: 'binary', maxLength: 12 }) },
    { weight: 3, arbitrary: fc.nat(999).map((number) => `${scene.canary}${number}`) },
    { weight: 3, arbitrary: secret(scene) },
    { weight: 2, arbitrary: fc.constantFrom(...nasties).map(unsignedJwt) },
    { weight: 1, arbitrary: fc.constantFrom(...long) },
  );
}

const deep = JSON.parse(`${'['.repeat(500)}1${']'.repeat(500)}`) as unknown;

/** JSON that nobody expects. */
export function hostileJson(scene: Scene): fc.Arbitrary<unknown> {
  return fc.oneof(
    { weight: 6, arbitrary: hostileText(scene) },
    {
      weight: 4,
      arbitrary: fc.constantFrom<unknown>(null, true, 0, -1, 1e308, 2 ** 53, 0.1, [], {}, [null], [[]], deep),
    },
    { weight: 2, arbitrary: hostileText(scene).map((text) => [text, text]) },
    { weight: 2, arbitrary: hostileText(scene).map((text) => ({ [text]: text })) },
    { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
  );
}

const unique = () => uuidv7().slice(-12);
const recently = fc
  .integer({ min: -3_600, max: 3_600 })
  .map((s) => new Date(Date.now() + s * 1000).toISOString());
const words = fc.constantFrom(
  'CI',
  'Lokalisierung',
  'ナイトリー',
  'nightly build',
  'Ünïcode',
  "O'Brien",
  '100%_sure',
);

/** What a member or parameter of this name takes, by its name where the name says it, else by its schema. */
export function goodValue(scene: Scene, cast: Cast, name: string, schema: Schema): fc.Arbitrary<unknown> {
  const named: Record<string, () => fc.Arbitrary<unknown>> = {
    name: () => words,
    reason: () => words,
    q: () => fc.constantFrom('CI', 'user', 'a', '%', '_', 'x1'),
    email: () => fc.nat().map(() => `u.${unique()}@example.com`),
    organization_id: () => oneOf(() => cast.organizations),
    user_id: () => oneOf(() => cast.users),
    actor_id: () => oneOf(() => [...cast.users, scene.machine.id]),
    token_id: () => oneOf(() => cast.tokens.map(({ id }) => id)),
    ids: () =>
      fc.array(
        oneOf(() => cast.tokens.map(({ id }) => id)),
        { minLength: 1, maxLength: 3 },
      ),
    service: () => oneOf(() => cast.services),
    id: () => fc.nat().map(() => `svc-${unique()}`),
    audience: () => fc.nat().map(() => `https://${unique()}.example.com`),
    scopes: () => fc.constantFrom(['read'], ['read', 'write'], ['read', 'write', 'admin:all']),
    scope: () => fc.constantFrom('introspect', 'tokens:read', 'openid tokens:read', ''),
    redirect_uris: () => fc.constantFrom(['https://a.example.com/cb'], ['http://localhost:8080/cb']),
    // Each costs the server a fifth of a second of bcrypt: seldom one that it would take.
    password: () => fc.nat(400).map((number) => (number === 7 ? `pass word ${unique()}` : 'short')),
    action: () => fc.constantFrom('token.exchanged', 'token.created', 'user.signed_in'),
    cursor: () => oneOf(() => scene.cursors.items),
    limit: () => fc.integer({ min: 1, max: 100 }).map((n) => (n > 20 ? 5 : n)),
    from: () => recently,
    to: () => recently,
    activates_at: () =>
      fc.integer({ min: 800, max: 80_000 }).map((s) => new Date(Date.now() + s * 1000).toISOString()),
    emergency: () => fc.nat(20).map((number) => number === 7),
    status: () =>
      schema.type === 'array' || schema.enum?.includes('revoked')
        ? fc.constantFrom('active', 'expired', 'revoked')
        : fc.nat(8).map((number) => (number === 0 ? 'inactive' : 'active')),
  };
  return named[name]?.() ?? bySchema(scene, schema);
}

function bySchema(scene: Scene, schema: Schema): fc.Arbitrary<unknown> {
  if (schema.enum) return fc.constantFrom(...schema.enum);
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map((choice) => bySchema(scene, choice)));
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (type === 'array') return fc.array(bySchema(scene, schema.items ?? {}), { minLength: 1, maxLength: 3 });
  if (type === 'integer' || type === 'number')
    return fc.integer({ min: schema.minimum ?? 0, max: Math.min(schema.maximum ?? 1000, 1e9) });
  if (type === 'boolean') return fc.boolean();
  if (type === 'null') return fc.constant(null);
  if (type === 'object') return fc.constant({});
  if (schema.format === 'uuid') return oneOf(() => [...scene.stable.organizations, ...scene.stable.users]);
  if (schema.format === 'date-time') return recently;
  return fc.string({ minLength: 1, maxLength: 20 });
}
