import { sign } from 'node:crypto';
import fc from 'fast-check';
import { problemTypes } from '../../server/http/problem-types.ts';
import { exchangeGrant } from '../support/harness.ts';
import { authorizationUrl, codeVerifier, type Scene } from './scene.ts';
import type { Route, Schema } from './surface.ts';
import { keyOf } from './surface.ts';
import { type Cast, goodValue, hostileJson, hostileText, oneOf, secret } from './values.ts';

/** A request that is HTTP, whatever else it is. */
export interface FuzzRequest {
  /** Which of the surface it is about. */
  readonly route: string;
  readonly method: string;
  readonly target: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string | undefined;
}

type Pairs = readonly (readonly [string, string])[];

const form = 'application/x-www-form-urlencoded';
const encode = (pairs: Pairs) =>
  pairs.map(([name, value]) => `${encodeText(name)}=${encodeText(value)}`).join('&');
/** As encodeURIComponent, which throws for half a surrogate pair. */
const encodeText = (text: string) => encodeURIComponent(String(text).toWellFormed());

export function serialize({ method, target, headers, body }: FuzzRequest): Buffer {
  const content = body === undefined ? undefined : Buffer.from(body);
  const fields = headers.map(
    ([name, value]) => `${name}: ${value.replace(/[^\t\x20-\x7e\xa0-\xff]/g, '?')}\r\n`,
  );
  const length = content ? `Content-Length: ${content.length}\r\n` : '';
  const head = `${method} ${target} HTTP/1.1\r\nHost: issuer.test\r\n${fields.join('')}${length}\r\n`;
  return content ? Buffer.concat([Buffer.from(head, 'latin1'), content]) : Buffer.from(head, 'latin1');
}

const methods = [
  'GET',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
  'HEAD',
  'TRACE',
  'PROPFIND',
  'PURGE',
  'QUERY',
];

/** Requests of every route of the surface, most of them good or nearly. */
export function createRequests(scene: Scene, surface: readonly Route[]): fc.Arbitrary<FuzzRequest> {
  const bad = hostileText(scene);
  const sometimes = <T>(one: number, arbitrary: fc.Arbitrary<T>) =>
    fc
      .nat(one)
      .chain((number): fc.Arbitrary<T | undefined> => (number === 0 ? arbitrary : fc.constant(undefined)));

  const basicOf = ({ id, secret: password }: { id: string; secret: string }) =>
    `Basic ${Buffer.from(`${encodeText(id)}:${encodeText(password)}`).toString('base64')}`;
  const clients = () => [scene.machine, scene.introspector, scene.exchanger, scene.refresher];

  /** Every way of saying who calls that is not the right one. */
  const badAuthorization = fc.oneof(
    { weight: 3, arbitrary: oneOf(scene.forged).map((jwt) => `Bearer ${jwt}`) },
    { weight: 2, arbitrary: oneOf(() => scene.stable.tokens).map(({ token }) => `Bearer ${token}`) },
    { weight: 2, arbitrary: oneOf(() => scene.accessTokens.items).map((jwt) => `Bearer ${jwt}`) },
    { weight: 2, arbitrary: oneOf(clients).map(basicOf) },
    {
      weight: 2,
      arbitrary: bad.map((text) => `Basic ${Buffer.from(`x:${text}`).toString('base64')}`),
    },
    { weight: 2, arbitrary: bad.map((text) => `Bearer ${text}`) },
    { weight: 1, arbitrary: bad },
    { weight: 1, arbitrary: fc.constantFrom('Bearer', 'Basic', 'Basic !', 'Negotiate x', 'bearer  x y', '') },
  );

  /** What any request may say besides. */
  const extraHeaders = fc
    .array(
      fc.oneof(
        fc.tuple(
          fc.constantFrom('User-Agent', 'Referer', 'X-Request-Id', 'X-Forwarded-For', 'Cookie', 'Origin'),
          bad,
        ),
        fc.constantFrom<readonly [string, string]>(
          ['Accept', 'text/html'],
          ['Accept', 'application/json'],
          ['Accept', 'application/token-introspection+jwt'],
          ['Accept-Language', 'de'],
          ['Accept-Language', '*;q=0.5, xx-yy;q=9, ;;;'],
          ['Accept-Encoding', 'br, gzip;q=x'],
          ['Expect', '100-continue'],
          ['Expect', 'something-else'],
          ['Range', 'bytes=0-0,1-1,2-'],
          ['If-None-Match', '*'],
          ['If-Modified-Since', 'yesterday'],
          ['Upgrade', 'websocket'],
          ['X-HTTP-Method-Override', 'DELETE'],
          ['X-Forwarded-Proto', 'https'],
          ['X-Forwarded-Host', 'evil.example.com'],
          ['Forwarded', 'for=1.2.3.4;host=evil'],
          ['Sec-Fetch-Site', 'cross-site'],
          ['Content-Encoding', 'gzip'],
          ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
          ['Connection', 'close'],
        ),
      ),
      { maxLength: 2 },
    )
    .map((list) => list as Pairs);

  /** Pairs with something wrong: left out, repeated, another value, one too many. */
  function bent(pairs: fc.Arbitrary<Pairs>): fc.Arbitrary<Pairs> {
    return fc.tuple(pairs, fc.nat(), fc.nat(4), bad).map(([list, at, how, text]): Pairs => {
      if (list.length === 0) return [[text, text]];
      const place = at % list.length;
      const [name] = list[place] as readonly [string, string];
      if (how === 0) return list.filter((_, index) => index !== place);
      if (how === 1) return [...list, list[place] as readonly [string, string]];
      if (how === 2) return [...list, [text, text]];
      return list.map((pair, index) => (index === place ? [name, text] : pair));
    });
  }

  /** Good two times of three. */
  const mostly = <T>(good: fc.Arbitrary<T>, wrong: fc.Arbitrary<T>) =>
    fc.oneof({ weight: 2, arbitrary: good }, { weight: 1, arbitrary: wrong });

  function withMethod(route: Route, request: fc.Arbitrary<Omit<FuzzRequest, 'route' | 'method'>>) {
    return fc
      .tuple(request, sometimes(20, fc.constantFrom(...methods)), sometimes(3, extraHeaders))
      .map(([rest, method, extra]): FuzzRequest => {
        const used = method ?? route.method;
        return { ...rest, route: keyOf(route), method: used, headers: [...rest.headers, ...(extra ?? [])] };
      });
  }

  // The admin API, by its OpenAPI document.

  function adminRequest(route: Route): fc.Arbitrary<FuzzRequest> {
    // What changes something that is there is about the victims.
    const changes = route.method !== 'GET' && (route.path.includes('{') || route.path.endsWith('/revoke'));
    const cast = changes ? scene.victims : scene.stable;
    const path = adminPath(route.path, cast);
    const query = queryOf(route, cast);
    const body = route.body ? jsonBody(route.body, cast) : sometimes(30, bad);
    return withMethod(
      route,
      fc
        .tuple(path, query, body, adminAuthorization, sometimes(30, bad), sometimes(40, bad))
        .map(([target, pairs, content, authorization, type, second]) => ({
          target: pairs.length > 0 ? `${target}?${encode(pairs)}` : target,
          headers: [
            ...(authorization === undefined ? [] : [['Authorization', authorization] as const]),
            ...(second === undefined ? [] : [['Authorization', second] as const]),
            ...(content === undefined ? [] : [['Content-Type', type ?? 'application/json'] as const]),
          ],
          body: content,
        })),
    );
  }

  const adminAuthorization = fc.oneof(
    { weight: 9, arbitrary: fc.constant(0).map((): string | undefined => `Bearer ${scene.callers.machine}`) },
    { weight: 4, arbitrary: fc.constant(0).map((): string | undefined => `Bearer ${scene.callers.admin}`) },
    { weight: 2, arbitrary: fc.constant(0).map((): string | undefined => `Bearer ${scene.callers.member}`) },
    { weight: 2, arbitrary: badAuthorization as fc.Arbitrary<string | undefined> },
    { weight: 1, arbitrary: fc.constant(undefined) },
  );

  function adminPath(template: string, cast: Cast): fc.Arbitrary<string> {
    const parts = template.split(/(\{\w+\})/).map((part): fc.Arbitrary<string> => {
      if (!part.startsWith('{')) return fc.constant(part);
      return fc.oneof(
        { weight: 12, arbitrary: fc.constant(0).chain(() => pathValue(template, part.slice(1, -1), cast)) },
        { weight: 1, arbitrary: bad.map(encodeText) },
      );
    });
    return fc
      .tuple(fc.tuple(...parts), fc.nat(60))
      .map(([all, odd]) =>
        odd === 0 ? `${all.join('')}/` : odd === 1 ? all.join('').toUpperCase() : all.join(''),
      );
  }

  function pathValue(template: string, name: string, cast: Cast): fc.Arbitrary<string> {
    if (name === 'user_id') return oneOf(() => cast.users);
    if (name === 'client_id') return oneOf(() => cast.clients.map(({ id }) => id));
    if (template.startsWith('/admin/tokens')) return oneOf(() => cast.tokens.map(({ id }) => id));
    if (template.startsWith('/admin/organizations')) return oneOf(() => cast.organizations);
    if (template.startsWith('/admin/users')) return oneOf(() => cast.users);
    if (template.startsWith('/admin/services')) return oneOf(() => cast.services);
    return goodValue(scene, cast, name, { format: 'uuid' }).map(String);
  }

  function queryOf(route: Route, cast: Cast): fc.Arbitrary<Pairs> {
    if (route.query.length === 0) return sometimes(30, bent(fc.constant([]))).map((pairs) => pairs ?? []);
    const parameters = route.query.map(({ name, schema }) =>
      fc
        .tuple(fc.nat(name === 'limit' ? 1 : 3), goodValue(scene, cast, name, schema))
        .map(([chance, value]): Pairs => {
          if (chance > 0 || value === undefined) return [];
          return [value].flat().map((one) => [name, String(one)] as const);
        }),
    );
    const good = fc.tuple(...parameters).map((lists): Pairs => lists.flat());
    return fc.oneof({ weight: 4, arbitrary: good }, { weight: 1, arbitrary: bent(good) });
  }

  /** JSON that the schema allows, mostly. */
  function jsonBody(schema: Schema, cast: Cast): fc.Arbitrary<string | undefined> {
    const members = Object.entries(schema.properties ?? {});
    const required = new Set(schema.required);
    const good = fc
      .tuple(
        fc.nat(),
        ...members.map(([name, member]) => fc.tuple(fc.nat(2), goodValue(scene, cast, name, member))),
      )
      .map(([at, ...values]) => {
        const entries = values.flatMap(([chance, value], index): [string, unknown][] => {
          const name = String(members[index]?.[0]);
          // Members that exclude others come seldom; those of an owner together.
          const wanted = required.has(name) || name.endsWith('_id') || chance === 0;
          return wanted ? [[name, value]] : [];
        });
        const object = Object.fromEntries(entries);
        const owner = at % cast.users.length;
        if (object.organization_id && object.user_id) {
          object.organization_id = cast.organizations[owner >> 1];
          object.user_id = cast.users[owner];
          // A user is for themselves, and may leave out both.
          if (at % 3 === 0) delete object.organization_id;
          if (at % 3 === 0) delete object.user_id;
        }
        // `ids` or a filter (RevokeTokens); an account of a service has no password.
        if (object.ids) for (const name of ['organization_id', 'user_id', 'service']) delete object[name];
        if (object.emergency) delete object.activates_at;
        return object;
      });
    const wrong = fc
      .tuple(good, fc.nat(), fc.nat(5), hostileJson(scene), bad)
      .map(([object, at, how, value, text]) => {
        const names = Object.keys(object);
        const name = names[at % Math.max(1, names.length)];
        if (how === 0) return JSON.stringify(value) ?? '';
        if (how === 1) return text;
        if (how === 2) return JSON.stringify({ ...object, [text]: value });
        if (how === 3 && name)
          return `${JSON.stringify(object).slice(0, -1)},"${name}":${JSON.stringify(value)}}`;
        if (how === 4 && name) return JSON.stringify({ ...object, [name]: undefined });
        return JSON.stringify(name ? { ...object, [name]: value } : value);
      });
    return fc.oneof(
      { weight: 5, arbitrary: good.map((object): string | undefined => JSON.stringify(object)) },
      { weight: 3, arbitrary: wrong as fc.Arbitrary<string | undefined> },
      { weight: 1, arbitrary: fc.constantFrom(undefined, '') },
    );
  }

  // The OAuth endpoints, by what each takes.

  const clientPairs = oneOf(clients).map(
    ({ id, secret: password }): Pairs => [
      ['client_id', id],
      ['client_secret', password],
    ],
  );
  const exchangePairs = (tokens: fc.Arbitrary<string>): fc.Arbitrary<Pairs> =>
    fc
      .tuple(tokens, fc.nat(7))
      .map(
        ([token, more]): Pairs => [
          ['grant_type', exchangeGrant],
          ['subject_token', token],
          ...(more === 1 ? [['scope', 'read'] as const] : []),
          ...(more === 2
            ? [['subject_token_type', 'urn:platform:params:oauth:token-type:api_token'] as const]
            : []),
          ...(more === 3 ? [['requested_token_type', 'urn:ietf:params:oauth:token-type:jwt'] as const] : []),
          ...(more === 4 ? [['audience', String(scene.stable.services[0])] as const] : []),
        ],
      );
  const liveTokens = oneOf(() => scene.stable.tokens).map(({ token }) => token);
  /** A live token with another checksum, another middle and its own checksum, a piece missing. */
  const tampered = fc.tuple(liveTokens, fc.nat(51), fc.nat(3)).map(([token, at, how]) => {
    const place = 4 + (at % 49);
    if (how === 0) return token.slice(0, place);
    if (how === 1) return `${token}${token.slice(-1)}`;
    return `${token.slice(0, place)}${token[place] === 'A' ? 'B' : 'A'}${token.slice(place + 1)}`;
  });
  const deadTokens = fc.oneof(
    oneOf(() => scene.dead),
    tampered,
    oneOf(() => scene.accessTokens.items),
    bad,
  );

  const tokenForms: fc.Arbitrary<readonly [Pairs, string | undefined]> = fc.oneof(
    { weight: 8, arbitrary: fc.tuple(exchangePairs(liveTokens), fc.constant(undefined)) },
    { weight: 3, arbitrary: fc.tuple(exchangePairs(deadTokens), fc.constant(undefined)) },
    { weight: 3, arbitrary: fc.tuple(bent(exchangePairs(liveTokens)), fc.constant(undefined)) },
    {
      weight: 1,
      arbitrary: exchangePairs(liveTokens).map((pairs) => [pairs, `Bearer ${pairs[1]?.[1]}`] as const),
    },
    {
      weight: 1,
      arbitrary: fc.tuple(
        exchangePairs(liveTokens),
        fc.constant(0).map(() => basicOf(scene.exchanger)),
      ),
    },
    { weight: 2, arbitrary: fc.tuple(exchangePairs(liveTokens), badAuthorization) },
    // Two ways of authentication at once.
    {
      weight: 1,
      arbitrary: fc.tuple(
        fc.tuple(exchangePairs(liveTokens), clientPairs).map(([a, b]): Pairs => [...a, ...b]),
        fc.oneof(badAuthorization, oneOf(clients).map(basicOf)),
      ),
    },
    ...(['basic', 'post', 'bent'] as const).map((how) => ({
      weight: 1,
      arbitrary: fc.tuple(
        (how === 'bent' ? bent : (pairs: fc.Arbitrary<Pairs>) => pairs)(
          fc.constant(0).map(
            (): Pairs => [
              ['grant_type', 'client_credentials'],
              ['scope', 'admin'],
              ...(how === 'post'
                ? ([
                    ['client_id', scene.machine.id],
                    ['client_secret', scene.machine.secret],
                  ] as const)
                : []),
            ],
          ),
        ),
        fc.constant(0).map(() => (how === 'post' ? undefined : basicOf(scene.machine))),
      ),
    })),
    {
      weight: 1,
      arbitrary: fc.tuple(
        mostly(refreshPairs(), bent(refreshPairs())),
        fc.constant(0).map(() => basicOf(scene.refresher)),
      ),
    },
    {
      weight: 1,
      arbitrary: fc.tuple(
        mostly(codePairs(), bent(codePairs())),
        fc.constant(0).map(() => basicOf(scene.refresher)),
      ),
    },
    {
      weight: 1,
      arbitrary: fc.tuple(bent(bent(clientPairs)), fc.option(badAuthorization, { nil: undefined })),
    },
  );

  function refreshPairs(): fc.Arbitrary<Pairs> {
    return oneOf(() => scene.refreshTokens.items).map(
      (token): Pairs => [
        ['grant_type', 'refresh_token'],
        ['refresh_token', String(token)],
      ],
    );
  }

  function codePairs(): fc.Arbitrary<Pairs> {
    return oneOf(() => scene.codes.items).map(
      (code): Pairs => [
        ['grant_type', 'authorization_code'],
        ['code', String(code)],
        ['code_verifier', codeVerifier],
        ['redirect_uri', scene.redirectUri],
      ],
    );
  }

  function formRequest(route: Route, forms: fc.Arbitrary<readonly [Pairs, string | undefined]>) {
    return withMethod(
      route,
      fc
        .tuple(
          forms,
          sometimes(40, fc.constantFrom('application/json', 'text/plain', `${form};charset=x`, '')),
          sometimes(60, bad),
        )
        .map(([[pairs, authorization], type, raw]) => ({
          target: route.path,
          headers: [
            ['Content-Type', type ?? form] as const,
            ...(authorization === undefined ? [] : [['Authorization', authorization] as const]),
          ],
          body:
            raw ?? (type === 'application/json' ? JSON.stringify(Object.fromEntries(pairs)) : encode(pairs)),
        })),
    );
  }

  const anyToken = fc.oneof(
    { weight: 4, arbitrary: oneOf(() => scene.accessTokens.items) },
    { weight: 2, arbitrary: fc.constant(0).map(() => scene.callers.machine) },
    { weight: 2, arbitrary: oneOf(scene.forged) },
    { weight: 1, arbitrary: liveTokens },
    { weight: 1, arbitrary: deadTokens },
    { weight: 1, arbitrary: bad },
  );
  const inspected = anyToken.map((token): Pairs => [['token', String(token)]]);
  const introspectForms = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.tuple(
        inspected,
        fc.constant(0).map((): string | undefined => basicOf(scene.introspector)),
      ),
    },
    {
      weight: 2,
      arbitrary: inspected.map((pairs): readonly [Pairs, undefined] => [
        [...pairs, ['client_id', scene.introspector.id], ['client_secret', scene.introspector.secret]],
        undefined,
      ]),
    },
    {
      weight: 1,
      arbitrary: fc.tuple(
        bent(inspected),
        fc.constant(0).map(() => basicOf(scene.introspector)),
      ),
    },
    { weight: 1, arbitrary: fc.tuple(inspected, fc.option(badAuthorization, { nil: undefined })) },
  );
  const revoked = fc.oneof(
    { weight: 3, arbitrary: oneOf(() => scene.victims.tokens).map(({ token }): Pairs => [['token', token]]) },
    { weight: 1, arbitrary: fc.oneof(deadTokens, bad).map((token): Pairs => [['token', String(token)]]) },
  );
  const revokeForms = fc.oneof(
    { weight: 4, arbitrary: fc.tuple(revoked, fc.constant(undefined)) },
    { weight: 1, arbitrary: fc.tuple(bent(revoked), fc.option(badAuthorization, { nil: undefined })) },
    {
      weight: 1,
      arbitrary: fc.tuple(
        fc.tuple(revoked, clientPairs).map(([a, b]): Pairs => [...a, ...b]),
        fc.option(badAuthorization, { nil: undefined }),
      ),
    },
  );

  // The sign-in, between browser and server.

  const authorizePairs = fc.nat(2).map(
    (own): Pairs => [
      ...new URL(
        authorizationUrl(
          scene.issuer,
          own === 0
            ? {}
            : {
                client_id: scene.refresher.id,
                redirect_uri: scene.redirectUri,
                scope: 'openid tokens:read',
              },
        ),
      ).searchParams,
    ],
  );
  const cookies = fc.oneof(
    { weight: 3, arbitrary: oneOf(() => scene.sessions.items).map((cookie) => cookie ?? '') },
    { weight: 1, arbitrary: fc.constant('') },
    { weight: 1, arbitrary: bad },
  );
  const cookieHeader = (cookie: string): Pairs => (cookie ? [['Cookie', cookie]] : []);
  const html = ['Accept', 'text/html,*/*;q=0.8'] as const;

  const special: Record<string, (route: Route) => fc.Arbitrary<FuzzRequest>> = {
    'POST /oauth/token': (route) => formRequest(route, tokenForms),
    'POST /oauth/introspect': (route) => formRequest(route, introspectForms),
    'POST /oauth/revoke': (route) => formRequest(route, revokeForms),
    'GET /oauth/authorize': (route) =>
      withMethod(
        route,
        fc
          .tuple(mostly(authorizePairs, bent(authorizePairs)), cookies, fc.boolean())
          .map(([pairs, cookie, page]) => ({
            target: `${route.path}?${encode(pairs)}`,
            headers: [...cookieHeader(cookie), ...(page ? [html] : [])],
            body: undefined,
          })),
      ),
    'GET /oauth/sign-in/{}': (route) => signInRequest(route, fc.constant(undefined)),
    'POST /oauth/sign-in/{}': (route) =>
      signInRequest(
        route,
        fc.oneof(
          // A password that is compared costs the server bcrypt: of the scene's users it is a cheap one.
          {
            weight: 3,
            arbitrary: oneOf(() => scene.persons).map(
              ({ email, password }): Pairs => [
                ['email', email],
                ['password', password],
              ],
            ),
          },
          {
            weight: 2,
            arbitrary: fc
              .tuple(
                oneOf(() => scene.persons),
                bad,
              )
              .map(
                ([{ email }, password]): Pairs => [
                  ['email', email],
                  ['password', password],
                ],
              ),
          },
          {
            weight: 1,
            arbitrary: fc.constant<Pairs>([
              ['email', 'a@b'],
              ['email', 'c@d'],
            ]),
          },
        ),
      ),
    'GET /oauth/logout': (route) =>
      withMethod(
        route,
        fc
          .tuple(
            fc.nat(3),
            oneOf(() => scene.idTokens.items),
            bad,
            fc.oneof(bad, fc.constant('')),
          )
          .map(([how, idToken, text, cookie]) => ({
            target:
              how === 0
                ? `${route.path}?${encode([['id_token_hint', String(idToken)]])}`
                : how === 1
                  ? `${route.path}?${encode([
                      ['client_id', 'dashboard'],
                      ['post_logout_redirect_uri', `${scene.issuer}/dashboard`],
                      ['state', text],
                    ])}`
                  : how === 2
                    ? `${route.path}?${encode([['id_token_hint', text]])}`
                    : route.path,
            headers: [...cookieHeader(cookie), html],
            body: undefined,
          })),
      ),
    'POST /oauth/logout/confirm': (route) =>
      withMethod(
        route,
        fc.tuple(bad, bad, cookies).map(([xsrf, logout, cookie]) => ({
          target: route.path,
          headers: [['Content-Type', form] as const, ...cookieHeader(cookie)],
          body: encode([
            ['xsrf', xsrf],
            ['logout', logout],
          ]),
        })),
      ),
    'POST /leaks/github': (route) => withMethod(route, leakReport(route)),
  };

  function signInRequest(route: Route, pairs: fc.Arbitrary<Pairs | undefined>) {
    const unknown = { uid: 'unknown', cookie: '' };
    return withMethod(
      route,
      fc
        .tuple(
          fc.nat(5),
          oneOf(() => scene.interactions.items),
          pairs,
          bad,
        )
        .map(([how, known, fields, text]) => {
          const { uid, cookie } = how === 0 ? unknown : (known ?? unknown);
          return {
            target:
              how === 1 ? route.path.replace('{uid}', encodeText(text)) : route.path.replace('{uid}', uid),
            headers: [
              ...cookieHeader(how === 2 ? text : cookie),
              html,
              ...(fields ? [['Content-Type', form] as const] : []),
            ],
            body: fields && encode(fields),
          };
        }),
    );
  }

  function leakReport(route: Route) {
    const match = fc
      .tuple(
        fc.oneof(
          oneOf(() => scene.victims.tokens).map(({ token }) => token),
          deadTokens,
        ),
        fc.constantFrom('https://github.com/a/b', '', 'not a url'),
        fc.constantFrom('content', 'issue_title', ''),
      )
      .map(([token, url, source]): unknown => ({ token, type: 'platform_token', url, source }));
    const body = fc.oneof(
      { weight: 4, arbitrary: fc.array(match, { maxLength: 5 }).map((report) => JSON.stringify(report)) },
      { weight: 1, arbitrary: hostileJson(scene).map((value) => JSON.stringify([value])) },
      { weight: 1, arbitrary: bad },
    );
    return fc.tuple(body, fc.nat(8), bad).map(([content, how, text]) => {
      const signature =
        how === 0 ? text : sign('sha256', Buffer.from(content), scene.github.privateKey).toString('base64');
      return {
        target: route.path,
        headers: [
          ['Content-Type', how === 1 ? 'text/plain' : 'application/json'] as const,
          ['Github-Public-Key-Identifier', how === 2 ? text : 'current'] as const,
          ['Github-Public-Key-Signature', signature] as const,
        ],
        body: how === 3 ? `${content} ` : content,
      };
    });
  }

  /** Whatever else there is: most are documents that anybody may read. */
  function plainRequest(route: Route): fc.Arbitrary<FuzzRequest> {
    const values: Record<string, fc.Arbitrary<string>> = {
      list: fc.constantFrom('0', '0', '1', '99999999999', '-1', '0x0'),
      uid: oneOf(() => scene.interactions.items).map((found) => found?.uid ?? 'unknown'),
      file: fc.constantFrom(...scene.assets),
      type: fc.constantFrom(...Object.keys(problemTypes)),
    };
    const parts = route.path.split(/(\{\w+\})/).map((part): fc.Arbitrary<string> => {
      if (!part.startsWith('{')) return fc.constant(part);
      return fc.oneof(
        { weight: 2, arbitrary: values[part.slice(1, -1)] ?? fc.constant('tokens') },
        { weight: 1, arbitrary: bad.map(encodeText) },
      );
    });
    return withMethod(
      route,
      fc
        .tuple(
          fc.tuple(...parts),
          sometimes(4, bent(fc.constant([]))),
          sometimes(5, badAuthorization),
          sometimes(6, bad),
        )
        .map(([path, query, authorization, body]) => ({
          target: path.join('') + (query ? `?${encode(query)}` : ''),
          headers: authorization === undefined ? [] : [['Authorization', authorization] as const],
          body,
        })),
    );
  }

  /** No route at all. */
  const nowhere = fc
    .tuple(
      bad,
      fc.constantFrom(...methods),
      fc.constantFrom('', '/admin', '/oauth', '/dashboard', '/.well-known', '/metrics'),
      sometimes(3, secret(scene)),
    )
    .map(
      ([text, method, under, hidden]): FuzzRequest => ({
        route: 'nowhere',
        method,
        target: `${under}/${encodeText(hidden ?? text)}`,
        headers: [],
        body: undefined,
      }),
    );

  const weights: Record<string, number> = {
    // What machines do all day, and where a mistake costs most.
    'POST /oauth/token': 90,
    'POST /oauth/introspect': 10,
    'POST /oauth/revoke': 4,
    'GET /oauth/authorize': 2,
    // Each makes a key.
    'POST /admin/signing-keys/rotate': 0.5,
  };
  return fc.oneof(
    ...surface.map((route) => {
      const key = keyOf(route);
      const make =
        special[key] ??
        (route.path.startsWith('/admin/') && route.path !== '/admin/openapi.json'
          ? adminRequest
          : plainRequest);
      return { weight: Math.round(2 * (weights[key] ?? 1)), arbitrary: make(route) };
    }),
    { weight: 3, arbitrary: nowhere },
  );
}
