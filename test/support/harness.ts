import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import bcrypt from 'bcrypt';
import { importJWK, type JWTPayload, SignJWT } from 'jose';
import { v7 as uuidv7 } from 'uuid';
import { type Config, readConfig } from '../../config/env.ts';
import { policy } from '../../config/policy.ts';
import { createApp } from '../../server/app.ts';
import {
  clientSecretReference,
  createClientSecret,
  digestClientSecret,
} from '../../server/domain/client-secret.ts';
import { createKeyTimes, type KeyTimes } from '../../server/domain/key-schedule.ts';
import { createPlatformToken } from '../../server/domain/platform-token.ts';
import { loadDashboard } from '../../server/http/dashboard.ts';
import { createLogger } from '../../server/http/logger.ts';
import { createKeyRing, type KeyRing } from '../../server/keys/key-ring.ts';
import { watchKeys } from '../../server/keys/key-watch.ts';
import { createSealer, type Sealer } from '../../server/keys/sealing.ts';
import type { KeySet } from '../../server/keys/signing-keys.ts';
import { createMetrics, type Metrics } from '../../server/metrics/metrics.ts';
import { createDatabase, type Database, type DatabaseWatch } from '../../server/storage/database.ts';
import type { Role } from '../../server/storage/memberships.ts';
import { listenTo } from '../../server/storage/notifications.ts';
import { signingKeysChannel } from '../../server/storage/signing-keys.ts';
import { createStores, type Stores } from '../../server/storage/stores.ts';
import type { UserKind } from '../../server/storage/users.ts';
import { asServing } from './global-setup.ts';
import { createOwnDatabase } from './own-database.ts';

export const exchangeGrant = 'urn:ietf:params:oauth:grant-type:token-exchange';
export const kek = Buffer.alloc(32, 7);

/** A database of one's own, copied from the migrated template. */
export async function createTestDatabase(watch?: DatabaseWatch): Promise<{
  database: Database;
  url: string;
  drop: () => Promise<void>;
}> {
  const { url, drop } = await createOwnDatabase({ migrated: true });
  const database = createDatabase({ connectionString: url, ...(watch ? { watch } : {}) });
  return {
    database,
    url,
    async drop() {
      await database.close();
      await drop();
    },
  };
}

export interface Harness {
  readonly url: string;
  readonly issuer: string;
  /** As the role that serves. */
  readonly database: Database;
  readonly databaseUrl: string;
  /** As the owner of the tables, and superuser. */
  readonly owner: Database;
  readonly stores: Stores;
  readonly keyRing: KeyRing;
  /** The keys as they were at the start. */
  readonly keySet: KeySet;
  readonly sealer: Sealer;
  readonly server: Server;
  /** Everything that was logged, as text. */
  readonly logs: () => string;
  readonly clock: { now: Date };
  /** Names of the limits that refused a request, in order. */
  readonly limited: string[];
  /** How long refusals were to wait for their turn, in ms: no test waits for that. */
  readonly paced: number[];
  readonly build: Builders;
  /** Another instance on the same database. */
  another(): Promise<{ url: string; close: () => Promise<void> }>;
  close(): Promise<void>;
}

export interface HarnessOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** Signing-key times that differ from the product's, so that a test need not wait. */
  readonly keyTimes?: Partial<KeyTimes>;
  /** Under its own address as the issuer, as a browser needs it. */
  readonly ownOrigin?: boolean;
  /** The clock of the rate limits, in ms. */
  readonly now?: () => number;
}

/** A port that is free now. */
export async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** The whole application on a real port and a real database. */
export async function createHarness({
  env = {},
  ownOrigin = false,
  keyTimes = {},
  now = () => performance.now(),
}: HarnessOptions = {}): Promise<Harness> {
  const metrics = createMetrics();
  const { database: owner, url, drop } = await createTestDatabase();
  const databaseUrl = asServing(url);
  const database = createDatabase({ connectionString: databaseUrl, watch: metrics.database });
  const port = ownOrigin ? await findFreePort() : 0;
  const config = readConfig({
    DATABASE_URL: databaseUrl,
    KEY_ENCRYPTION_KEY: kek.toString('base64url'),
    ISSUER: port === 0 ? 'http://issuer.test' : `http://localhost:${port}`,
    ...env,
  });
  const lines: string[] = [];
  const clock = { now: new Date(), frozen: false };
  const times = { ...createKeyTimes(90), ...keyTimes };
  const limited: string[] = [];
  const paced: number[] = [];
  const observed = { lines, limited, paced };
  const instance = await startInstance({ config, database, metrics, times, port, now, observed });
  return {
    ...instance,
    issuer: config.issuer,
    database,
    databaseUrl,
    owner,
    logs: () => lines.join(''),
    clock,
    limited,
    paced,
    build: createBuilders(instance.stores, database, instance.keySet, config),
    async another() {
      const own = createMetrics();
      const second = createDatabase({ connectionString: databaseUrl, watch: own.database });
      const other = await startInstance({
        config,
        database: second,
        metrics: own,
        times,
        port: 0,
        now,
        observed,
      });
      return {
        url: other.url,
        async close() {
          await other.closeServer();
          await second.close();
        },
      };
    },
    async close() {
      await instance.closeServer();
      await database.close();
      await drop();
    },
  };
}

async function startInstance({
  config,
  database,
  metrics,
  times,
  port,
  now,
  observed: { lines, limited, paced },
}: {
  config: Config;
  database: Database;
  metrics: Metrics;
  times: KeyTimes;
  port: number;
  now: () => number;
  observed: { lines: string[]; limited: string[]; paced: number[] };
}) {
  const logger = createLogger('debug', { write: (line: string) => void lines.push(line) });
  const stores = createStores(database, (err) => logger.error({ err }, 'usage'));
  const sealer = createSealer(config.keyEncryptionKeys);
  const clock = () => new Date();
  const { signingKeys } = stores;
  const keyRing = await createKeyRing({ signingKeys, sealer, alg: config.signingAlg, times, clock });
  const keyWatch = watchKeys({
    keyRing,
    refreshInterval: times.refreshInterval,
    listen: (onChange) =>
      listenTo({ connectionString: config.databaseUrl ?? '', channel: signingKeysChannel }, onChange),
    record: async () => {},
    onError: (err) => logger.error({ err }, 'keys'),
  });
  const dashboard = await loadDashboard('dashboard/dist');
  const stopping = () => false;
  const app = createApp({
    config,
    database,
    stores,
    sealer,
    keyRing,
    dashboard,
    metrics,
    readMetrics: async () => metrics.read(),
    logger,
    clock,
    stopping,
    now,
    onLimited: (limit) => void limited.push(limit),
    delay: async (ms) => void paced.push(ms),
  });
  // As the product's own: a client would else send into a connection that is just being closed.
  const server = createServer({ keepAliveTimeout: policy.connections.idleMs }, app.callback());
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const path = new URL(config.issuer).pathname.replace(/\/$/, '');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`,
    stores,
    sealer,
    keyRing,
    keySet: keyRing.keySet(),
    server,
    async closeServer() {
      await keyWatch.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await stores.usage.close();
      await stores.countedEvents.close();
      metrics.close();
    },
  };
}

export type Builders = ReturnType<typeof createBuilders>;

function createBuilders(stores: Stores, database: Database, keySet: KeySet, config: Config) {
  let serial = 0;
  const builders = {
    async organization(name = 'Acme') {
      const organization = { id: uuidv7(), name, status: 'active', createdAt: new Date() } as const;
      await stores.organizations.insert(organization);
      return organization;
    },
    async user({
      organizationId,
      role = 'member',
      password,
      kind = 'person',
      status = 'active',
    }: {
      organizationId?: string;
      role?: Role;
      password?: string;
      kind?: UserKind;
      status?: 'active' | 'inactive';
    } = {}) {
      const id = uuidv7();
      serial += 1;
      const email = `user${serial}.${id}@example.com`;
      await stores.users.insert({
        id,
        email,
        name: `User ${serial}`,
        kind,
        status,
        createdAt: new Date(),
        // As cheap as bcrypt gets: what is tested is not its cost.
        passwordHash: password === undefined ? null : await bcrypt.hash(password, 4),
      });
      if (organizationId) await stores.memberships.put(organizationId, id, role, new Date());
      return { id, email };
    },
    async service(id = `service-${randomBytes(4).toString('hex')}`, scopes = ['read', 'write']) {
      const service = {
        id,
        name: id,
        audience: `https://${id}.example.com`,
        scopes,
        status: 'active',
        createdAt: new Date(),
      } as const;
      await stores.services.insert(service);
      return service;
    },
    async client(
      scopes: string[],
      grantTypes = ['client_credentials'],
      redirectUris: string[] = [],
      serviceId: string | null = null,
    ) {
      const { secret, digest } = createClientSecret();
      const id = uuidv7();
      await stores.clients.insert({
        id,
        name: 'Test client',
        secretDigest: digest,
        grantTypes,
        scopes,
        redirectUris,
        serviceId,
        createdAt: new Date(),
      });
      return { id, secret };
    },
    /** What the access token of a machine administrator says of it, whoever signs it. */
    async machineClaims(scopes = ['admin'], grantTypes?: string[]) {
      const { id, secret } = await builders.client(scopes, grantTypes);
      const secret_id = clientSecretReference(digestClientSecret(secret));
      return { sub: id, client_id: id, secret_id, scope: scopes.join(' ') };
    },
    /** A platform token and all that it belongs to, straight in the database. */
    async platformToken(
      options: {
        createdAt?: Date;
        expiresAt?: Date;
        revokedAt?: Date;
        organizationId?: string;
        userId?: string;
        service?: { id: string; audience: string; scopes: readonly string[] };
        name?: string;
      } = {},
    ) {
      const organizationId = options.organizationId ?? (await builders.organization()).id;
      const userId = options.userId ?? (await builders.user({ organizationId })).id;
      const service = options.service ?? (await builders.service());
      const { token, digest, hint } = createPlatformToken('ptk');
      const createdAt = options.createdAt ?? new Date();
      const id = uuidv7();
      await stores.platformTokens.insert({
        id,
        organizationId,
        userId,
        serviceId: service.id,
        name: options.name ?? 'CI',
        digest,
        hint,
        scopes: service.scopes,
        createdAt,
        expiresAt: options.expiresAt ?? new Date(createdAt.getTime() + 730 * 86_400_000),
      });
      if (options.revokedAt) {
        await database
          .knex('platform_tokens')
          .where({ id })
          .update({ revoked_at: options.revokedAt, revoked_by: 'test' });
      }
      return { token, id, organizationId, userId, service };
    },
    /** An access token signed by the server's own key, with any claims. */
    async jwt(
      claims: JWTPayload & { client_id?: string; scope?: string },
      header: Record<string, unknown> = {},
    ) {
      const jwk = keySet.privateJwks[0];
      if (!jwk) throw new Error('no signing key');
      const now = Math.floor(Date.now() / 1000);
      return new SignJWT({
        iss: config.issuer,
        aud: `${config.issuer}/admin`,
        iat: now,
        exp: now + 600,
        jti: uuidv7(),
        ...claims,
      })
        .setProtectedHeader({ alg: keySet.alg, kid: String(jwk.kid), typ: 'at+jwt', ...header })
        .sign(await importJWK(jwk, keySet.alg));
    },
    userJwt(userId: string, scope = 'tokens:read tokens:write') {
      return builders.jwt({ sub: userId, client_id: 'dashboard', scope });
    },
    async machineJwt() {
      return builders.jwt(await builders.machineClaims());
    },
  };
  return builders;
}

/** POST of a form to an OAuth endpoint, by default the token endpoint. */
export function postForm(
  url: string,
  form: Record<string, string> | string,
  headers: Record<string, string> = {},
  path = '/oauth/token',
): Promise<Response> {
  return fetch(url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    body: typeof form === 'string' ? form : new URLSearchParams(form).toString(),
  });
}

export function exchange(
  url: string,
  token: string,
  more: Record<string, string> = {},
  headers: Record<string, string> = {},
) {
  return postForm(url, { grant_type: exchangeGrant, subject_token: token, ...more }, headers);
}

/** Basic credentials, form-encoded (RFC 6749 §2.3.1). */
export const basic = (id: string, secret: string) => ({
  authorization: `Basic ${Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString('base64')}`,
});

/** A POST that fetch would not send: with any headers, as often as wanted. */
export function rawPost(
  url: string,
  body: Buffer | string,
  headers: Record<string, string | string[]>,
): Promise<{ status: number; headers: IncomingHttpHeaders; body: Record<string, unknown> }> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: 'POST', agent: false, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: text ? JSON.parse(text) : {},
        });
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}
