import { randomBytes } from 'node:crypto';
import type { Knex } from 'knex';
import { v7 as uuidv7 } from 'uuid';
import type { Config } from '../config/env.ts';
import { policy } from '../config/policy.ts';
import { demonstration, seed } from '../seeds/demonstration.ts';
import { createClientSecret, digestClientSecret, verifyClientSecret } from './domain/client-secret.ts';
import { hashPassword } from './domain/password.ts';
import { createPlatformToken } from './domain/platform-token.ts';
import { systemEvent } from './storage/audit-events.ts';
import type { Database } from './storage/database.ts';
import type { Stores } from './storage/stores.ts';

export interface FirstStartDeps {
  readonly config: Config;
  readonly database: Database;
  readonly stores: Stores;
  readonly clock: () => Date;
}

export interface FirstStart {
  /** Of the machine administrator, where one was generated. */
  readonly adminSecret?: string | undefined;
  /** The demonstration's user and token, as they are printed; undefined where they were made before. */
  readonly demonstration?: string | undefined;
  /** Whether there is a machine administrator now. */
  readonly administered: boolean;
  /** Whether ADMIN_CLIENT_SECRET is not the secret that this administrator has. */
  readonly otherSecret: boolean;
}

/** All that a first start makes, or nothing: a start that fails half-way would take secrets along that nobody has seen. */
export function createFirstStart(deps: FirstStartDeps): Promise<FirstStart> {
  const { config, database, stores } = deps;
  return database.transact(async (transaction) => {
    // First, for it hashes a password: no row is locked yet.
    const demonstrated = config.databaseUrl ? undefined : await createDemonstration(deps, transaction);
    const adminSecret = await createAdminClient(deps, transaction);
    const administrator = await stores.clients.find(config.adminClientId, transaction);
    const { secretDigest } = administrator ?? {};
    const given = config.adminClientSecret;
    return {
      adminSecret,
      demonstration: demonstrated,
      administered: administrator !== undefined,
      otherSecret: Boolean(secretDigest && given !== undefined && !verifyClientSecret(given, secretDigest)),
    };
  });
}

/** The first machine administrator, where it is not there. @returns its secret where one was generated */
async function createAdminClient(
  { config, stores, clock }: FirstStartDeps,
  transaction: Knex.Transaction,
): Promise<string | undefined> {
  if (await stores.clients.find(config.adminClientId, transaction)) return undefined;
  const generated = config.adminClientSecret === undefined ? createClientSecret() : undefined;
  // With DATABASE_URL nobody reads a printed secret: the operator sets it, or makes the client another way.
  if (generated && config.databaseUrl) return undefined;
  const inserted = await stores.clients.insert(
    {
      id: config.adminClientId,
      name: 'Machine administrator',
      secretDigest: generated?.digest ?? digestClientSecret(String(config.adminClientSecret)),
      grantTypes: ['client_credentials'],
      scopes: ['admin'],
      redirectUris: [],
      serviceId: null,
      createdAt: clock(),
    },
    transaction,
  );
  if (!inserted) return undefined;
  const event = { at: clock(), action: 'client.created', targetId: config.adminClientId };
  await stores.auditEvents.insert([systemEvent('first-start', event)], transaction);
  return generated?.secret;
}

/**
 * The demonstration, in the embedded database: seeded where it is not there, and its administrator given a password and
 * a platform token, once. @returns what to print; undefined later on
 */
async function createDemonstration(
  { config, stores, clock }: FirstStartDeps,
  transaction: Knex.Transaction,
): Promise<string | undefined> {
  const { organizationId, adminId, adminEmail } = demonstration;
  const administrator = await stores.users.findCredentials(adminEmail, transaction);
  // `npm run seed` makes them without a password; what somebody has changed since stays as it is.
  const seeded = (await stores.organizations.find(organizationId, transaction)) !== undefined;
  if (seeded && (!administrator || administrator.passwordHash)) return undefined;

  const password = randomBytes(12).toString('base64url');
  const passwordHash = await hashPassword(password);
  const { token, digest, hint } = createPlatformToken(config.tokenPrefix);
  const createdAt = clock();
  await seed(transaction);
  await stores.users.update(adminId, { passwordHash }, transaction);
  const tms = await stores.services.find('tms', transaction);
  const tokenId = uuidv7();
  await stores.platformTokens.insert(
    {
      id: tokenId,
      organizationId,
      userId: adminId,
      serviceId: 'tms',
      name: 'First token',
      digest,
      hint,
      scopes: tms?.scopes ?? [],
      createdAt,
      expiresAt: new Date(createdAt.getTime() + policy.platformTokenLifetime * 1000),
    },
    transaction,
  );
  await stores.auditEvents.insert(
    [systemEvent('first-start', { at: createdAt, action: 'token.created', organizationId, tokenId })],
    transaction,
  );
  return [
    `User       ${adminEmail}  password ${password}`,
    'Exchange a platform token for an access token:',
    `  curl -d grant_type=urn:ietf:params:oauth:grant-type:token-exchange -d subject_token=${token} ${config.issuer}/oauth/token`,
  ].join('\n');
}
