import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { importJWK, SignJWT } from 'jose';
import { v7 as uuidv7 } from 'uuid';
import { clientSecretReference, digestClientSecret } from '../../server/domain/client-secret.ts';
import { createPlatformToken } from '../../server/domain/platform-token.ts';
import { type Answer, type Browser, createBrowser, signIn } from '../support/browser.ts';
import { basic, type Harness, postForm } from '../support/harness.ts';
import { partsOfJwt } from './secrets.ts';

export type Scene = Awaited<ReturnType<typeof createScene>>;

/** Who and what is in a role: `stable` stays as it is, `victims` are what requests that change things are about. */
interface Cast {
  readonly organizations: string[];
  readonly users: string[];
  readonly services: string[];
  readonly tokens: { readonly id: string; readonly token: string }[];
  readonly clients: { readonly id: string; readonly secret: string }[];
}

/** The last of what answers gave, for later requests to come back with. */
function createRing<T>(size: number) {
  const items: T[] = [];
  let next = 0;
  return {
    items,
    add(item: T) {
      items[next] = item;
      next = (next + 1) % size;
    },
  };
}

const password = 'correct horse battery';
/** One for all authorization requests, so that any code can be redeemed. */
export const codeVerifier = randomBytes(32).toString('base64url');
export const codeChallenge = createHash('sha256').update(codeVerifier).digest('base64url');
const day = 86_400_000;

/** Organizations, users, services, tokens and clients to fuzz with, of its own, and a way back to how they were. */
export async function createScene(harness: Harness, serverUrl: string) {
  const { build, database, issuer } = harness;
  const { knex } = database;
  const redirectUri = 'https://app.example.com/callback';

  async function createCast(): Promise<Cast> {
    const organizations: string[] = [];
    const users: string[] = [];
    const tokens: Cast['tokens'] = [];
    const service = await build.service(undefined, ['read', 'write', 'admin:all']);
    const other = await build.service();
    for (let number = 0; number < 6; number += 1) {
      const { id: organizationId } = await build.organization();
      organizations.push(organizationId);
      for (const role of ['admin', 'member'] as const) {
        const { id: userId } = await build.user({
          organizationId,
          role,
          ...(role === 'admin' ? { password } : {}),
        });
        users.push(userId);
        for (let token = 0; token < 3; token += 1)
          tokens.push(await build.platformToken({ organizationId, userId, service }));
      }
    }
    const clients = await Promise.all(
      ['admin', 'introspect', 'tokens:read', ''].map((scope) => build.client(scope ? [scope] : [])),
    );
    return { organizations, users, tokens, clients, services: [service.id, other.id] };
  }

  const stable = await createCast();
  const victims = await createCast();
  const dead = await Promise.all([
    build.platformToken({ revokedAt: new Date() }),
    build.platformToken({
      createdAt: new Date(Date.now() - 731 * day),
      expiresAt: new Date(Date.now() - day),
    }),
    build.platformToken({ userId: (await build.user({ status: 'inactive' })).id }),
  ]);
  const reserved = await build.platformToken();
  const organizationId = String(stable.organizations[0]);
  const adminUser = await build.user({ organizationId, role: 'admin', password });
  const memberUser = await build.user({ organizationId, password });
  const machine = await build.client(['admin']);
  const introspector = await build.client(['introspect']);
  const exchanger = await build.client([], ['urn:ietf:params:oauth:grant-type:token-exchange']);
  const refresher = await build.client(
    ['openid', 'offline_access', 'tokens:read'],
    ['authorization_code', 'refresh_token'],
    [redirectUri],
  );
  const github = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });

  const callers = { machine: '', admin: '', member: '' };
  const accessTokens = createRing<string>(64);
  const cursors = createRing<string>(64);
  const codes = createRing<string>(16);
  const refreshTokens = createRing<string>(16);
  const idTokens = createRing<string>(8);
  const sessions = createRing<string>(8);
  const interactions = createRing<{ uid: string; cookie: string }>(32);

  const machineClaims = {
    sub: machine.id,
    client_id: machine.id,
    secret_id: clientSecretReference(digestClientSecret(machine.secret)),
    scope: 'admin',
  };

  /** An access token by the server's present key. */
  async function mint(
    claims: Record<string, unknown>,
    header: Record<string, unknown> = {},
  ): Promise<string> {
    await harness.keyRing.refresh();
    const { privateJwks, alg } = harness.keyRing.keySet();
    const [jwk] = privateJwks;
    if (!jwk) throw new Error('no signing key');
    const now = Math.floor(Date.now() / 1000);
    const payload = {
      iss: issuer,
      aud: `${issuer}/admin`,
      iat: now,
      exp: now + 3600,
      jti: uuidv7(),
      ...claims,
    };
    return new SignJWT(payload)
      .setProtectedHeader({ alg, kid: String(jwk.kid), typ: 'at+jwt', ...header })
      .sign(await importJWK(jwk, alg));
  }

  /** JWTs that must open nothing: each wrong in one way. */
  async function mintForged(): Promise<string[]> {
    const good = await mint(machineClaims);
    const [, payload, signature] = good.split('.');
    const unsigned = Buffer.from(JSON.stringify({ alg: 'none', typ: 'at+jwt' })).toString('base64url');
    const now = Math.floor(Date.now() / 1000);
    return [
      `${unsigned}.${payload}.`,
      `${unsigned}.${payload}.${signature}`,
      await mint(machineClaims, { kid: 'another' }),
      await mint(machineClaims, { typ: 'JWT' }),
      await mint({ ...machineClaims, aud: 'https://elsewhere.example.com' }),
      await mint({ ...machineClaims, iss: 'https://elsewhere.example.com' }),
      await mint({ ...machineClaims, exp: now - 60 }),
      await mint({ ...machineClaims, nbf: now + 600 }),
      await mint({ ...machineClaims, token_id: reserved.id }),
      await mint({ ...machineClaims, sub: uuidv7(), client_id: uuidv7() }),
      `${good.slice(0, -4)}AAAA`,
      `${good}.x`,
    ];
  }
  let forged: string[] = [];

  const all = [stable, victims];
  const tokensOf = () => all.flatMap(({ tokens }) => tokens.map(({ id }) => id));
  const usersOf = () => [...all.flatMap(({ users }) => users), adminUser.id, memberUser.id];
  const memberships = await knex('memberships')
    .whereIn('user_id', usersOf())
    .select('organization_id', 'user_id', 'role', 'created_at');
  const users = await knex('users').whereIn('id', usersOf());
  const services = await knex('services').whereIn(
    'id',
    all.flatMap((cast) => cast.services),
  );
  const organizations = await knex('organizations').whereIn(
    'id',
    all.flatMap((cast) => cast.organizations),
  );
  const clients = await knex('clients').whereIn(
    'id',
    all.flatMap((cast) => cast.clients.map(({ id }) => id)),
  );

  return {
    issuer,
    redirectUri,
    /** Stands in what requests say, and must not come back in an error. */
    canary: `kanarie${randomBytes(4).toString('hex')}`,
    stable,
    victims,
    dead: [
      ...dead.map(({ token }) => token),
      createPlatformToken('ptk').token,
      createPlatformToken('foreign').token,
    ],
    reserved,
    persons: [adminUser, memberUser].map(({ email }) => ({ email, password })),
    /** Files of the dashboard. */
    assets: await readdir('dashboard/dist/assets'),
    machine,
    introspector,
    exchanger,
    refresher,
    github,
    callers,
    accessTokens,
    cursors,
    codes,
    refreshTokens,
    idTokens,
    sessions,
    interactions,
    forged: () => forged,

    /** Everything as it was at first, and new access tokens: requests may have ended any of it. */
    async restore(): Promise<void> {
      await knex.transaction(async (tx) => {
        // In one statement each: rows of requests before must not lie beside those that are put back.
        await tx('platform_tokens')
          .whereIn('user_id', usersOf())
          .whereNotIn('id', tokensOf())
          .update({ revoked_at: new Date(), revoked_by: 'fuzz' })
          .whereNull('revoked_at');
        await tx('platform_tokens').whereIn('id', tokensOf()).update({ revoked_at: null, revoked_by: null });
        for (const [table, rows, key] of [
          ['organizations', organizations, ['id']],
          ['users', users, ['id']],
          ['services', services, ['id']],
          ['clients', clients, ['id']],
          ['memberships', memberships, ['organization_id', 'user_id']],
        ] as const) {
          await tx(table)
            .insert([...rows])
            .onConflict([...key])
            .merge();
        }
      });
      callers.machine = await mint(machineClaims);
      const scope = 'tokens:read tokens:write';
      callers.admin = await mint({ sub: adminUser.id, client_id: 'dashboard', scope });
      callers.member = await mint({ sub: memberUser.id, client_id: 'dashboard', scope });
      forged = await mintForged();
    },

    /**
     * Two whole sign-ins at the fuzzed server: one for its session, code and tokens, and one that signs out again.
     * @param note told of every answer, by its route
     */
    async signIn(note: (route: string, status: number) => void): Promise<void> {
      const target = { ...harness, url: serverUrl };
      const browse = () => {
        const browser = createBrowser(target);
        const noted = async (method: 'GET' | 'POST', url: string | URL, work: Promise<Answer>) => {
          const { pathname } = new URL(url, issuer);
          const answer = await work;
          note(`${method} ${pathname.replace(/(authorize|sign-in)\/.+/, '$1/{}')}`, answer.status);
          return answer;
        };
        const wrapped: Browser = {
          ...browser,
          get: (url, headers) => noted('GET', url, browser.get(url, headers)),
          post: (url, form, headers) => noted('POST', url, browser.post(url, form, headers)),
        };
        return wrapped;
      };
      const url = authorizationUrl(issuer, {
        client_id: refresher.id,
        redirect_uri: redirectUri,
        scope: 'openid offline_access tokens:read',
        prompt: 'consent',
      });
      const request = { url, verifier: codeVerifier };
      const credentials = { email: adminUser.email, password };
      const browser = browse();
      const { code } = await signIn(target, browser, credentials, request);
      const session = [...browser.jar]
        .map(([name, { value }]) => `${name.split('|')[0]}=${value}`)
        .join('; ');
      sessions.add(session);
      const answer = await postForm(
        serverUrl,
        { grant_type: 'authorization_code', code, code_verifier: codeVerifier, redirect_uri: redirectUri },
        basic(refresher.id, refresher.secret),
      );
      note('POST /oauth/token', answer.status);
      const tokens = (await answer.json()) as Record<string, unknown>;
      if (answer.status !== 200) throw new Error(`a code was refused: ${JSON.stringify(tokens)}`);
      idTokens.add(String(tokens.id_token));
      refreshTokens.add(String(tokens.refresh_token));
      accessTokens.add(String(tokens.access_token));

      const leaving = browse();
      await signIn(target, leaving, credentials, request);
      const { text } = await leaving.get(`${issuer}/oauth/logout`);
      const xsrf = /name="xsrf" value="([^"]+)"/.exec(text)?.[1] ?? '';
      await leaving.post(`${issuer}/oauth/logout/confirm`, { xsrf, logout: 'yes' });
    },

    /** All that must be in no log, with what to call it. */
    *secrets(): Generator<[string, string]> {
      for (const { tokens, clients } of all) {
        for (const { token } of tokens) yield ['platform token', token];
        for (const { secret } of clients) yield ['client secret', secret];
      }
      for (const { token } of [...dead, reserved]) yield ['platform token', token];
      for (const { secret } of [machine, introspector, exchanger, refresher]) yield ['client secret', secret];
      yield ['password', password];
      yield ['code verifier', codeVerifier];
      for (const jwt of Object.values(callers)) yield ['access token', jwt];
      for (const jwt of [...accessTokens.items, ...idTokens.items]) {
        for (const part of partsOfJwt(jwt)) yield ['access token', part];
      }
      for (const code of codes.items) yield ['code', code];
      for (const token of refreshTokens.items) yield ['refresh token', token];
      for (const line of [...sessions.items, ...interactions.items.map(({ cookie }) => cookie)]) {
        for (const [, name = '', value = ''] of line.matchAll(/([^=; ]+)=([^;]*)/g)) {
          // The others are ids that stand in addresses and answers too: their signature is what counts.
          if (name.endsWith('.sig') || name === 'pt_session') yield ['cookie', value];
        }
      }
    },
  };
}

export function authorizationUrl(issuer: string, change: Readonly<Record<string, string>> = {}): string {
  const parameters = {
    client_id: 'dashboard',
    response_type: 'code',
    redirect_uri: `${issuer}/dashboard/callback`,
    scope: 'openid tokens:read tokens:write',
    state: 'a-state',
    code_challenge: codeChallenge,
    code_challenge_method: 'S256',
    ...change,
  };
  return `${issuer}/oauth/authorize?${new URLSearchParams(parameters)}`;
}
