import { createHash } from 'node:crypto';
import bcrypt from 'bcrypt';
import { v7 as uuidv7 } from 'uuid';
import { createPlatformToken } from '../../../server/domain/platform-token.ts';
import type { Role } from '../../../server/storage/memberships.ts';
import { exchange } from '../../support/harness.ts';
import { type Person, password, type Stage } from './dashboard.ts';

/** Who looks at a view; `nobody` is not signed in. */
export type Who = 'nobody' | 'member' | 'admin' | 'guest';

/** Two organizations with people and tokens in every state: what the views show. */
export interface Scene {
  /** `guest` belongs to no organization. */
  readonly people: Readonly<Record<Exclude<Who, 'nobody'>, Person & { name: string }>>;
  /** Where the member has tokens and the admin has as many as are allowed; and one where nobody has any. */
  readonly organizations: Readonly<Record<'busy' | 'quiet', { id: string; name: string }>>;
  /** Of the member, created, exchanged and revoked by the API itself. */
  readonly revokedTokenId: string;
}

const day = 86_400_000;
export const markupName = '<img src=x onerror=alert(1)>';
export const longName =
  'Nightly import of the terminology of every customer from the warehouse in Frankfurt, second attempt';

interface TokenTraits {
  readonly name: string;
  readonly service: string;
  readonly createdDaysAgo: number;
  readonly endsInDays?: number;
  readonly used?: { readonly hoursAgo: number; readonly ip: string };
}

const tokensOfMember: readonly TokenTraits[] = [
  { name: 'Build server', service: 'tms', createdDaysAgo: 3, used: { hoursAgo: 1, ip: '203.0.113.7' } },
  { name: markupName, service: 'studio', createdDaysAgo: 16 },
  { name: longName, service: 'language-ai', createdDaysAgo: 40, used: { hoursAgo: 30, ip: '198.51.100.23' } },
  {
    name: 'Shop connector',
    service: 'connectors',
    createdDaysAgo: 718,
    used: { hoursAgo: 5, ip: '2001:db8:85a3:8d3:1319:8a2e:370:7348' },
  },
  { name: 'Old laptop', service: 'strings', createdDaysAgo: 800, endsInDays: -70 },
];

export async function setScene({ harness, services }: Stage): Promise<Scene> {
  const { build, database, issuer, stores } = harness;
  const now = Date.now();
  const passwordHash = await bcrypt.hash(password, 4);
  const busy = await build.organization('Acme Translations');
  const quiet = await build.organization('Globex');

  async function person(name: string, memberships: readonly [organization: { id: string }, role: Role][]) {
    const id = uuidv7();
    const email = `${name.toLowerCase().replaceAll(/\W+/g, '.')}@example.com`;
    const createdAt = new Date(now - 900 * day);
    await stores.users.insert({ id, email, name, kind: 'person', status: 'active', createdAt, passwordHash });
    for (const [organization, role] of memberships)
      await stores.memberships.put(organization.id, id, role, createdAt);
    return { id, email, name };
  }

  async function token(userId: string, { name, service, createdDaysAgo, endsInDays, used }: TokenTraits) {
    const id = uuidv7();
    const createdAt = new Date(now - createdDaysAgo * day);
    const random = createHash('sha256')
      .update(`${userId === member.id}${name}`)
      .digest();
    await stores.platformTokens.insert({
      id,
      organizationId: busy.id,
      userId,
      serviceId: service,
      name,
      ...createPlatformToken('ptk', random),
      scopes: services.get(service)?.scopes ?? [],
      createdAt,
      expiresAt: new Date(
        endsInDays === undefined ? createdAt.getTime() + 730 * day : now + endsInDays * day,
      ),
    });
    if (!used) return;
    const lastUse = { last_used_at: new Date(now - used.hoursAgo * 3_600_000), last_used_ip: used.ip };
    await database.knex('platform_token_uses').where({ token_id: id }).update(lastUse);
  }

  /** By the API, so that its trail is the server's own. */
  async function createAndRevoke(): Promise<string> {
    const call = async (userId: string, path: string, body: object) => {
      const answer = await fetch(`${issuer}/admin/tokens${path}`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          authorization: `Bearer ${await build.userJwt(userId)}`,
        },
        body: JSON.stringify(body),
      });
      if (!answer.ok) throw new Error(`POST /admin/tokens${path}: ${await answer.text()}`);
      return answer.json() as Promise<{ id: string; token: string }>;
    };
    const request = { name: 'Staging', service: 'tms', organization_id: busy.id };
    const created = await call(member.id, '', request);
    await exchange(issuer, created.token, {}, { 'user-agent': 'curl/8.14.1' });
    const reason = 'Found in a public repository; the member has been told.';
    await call(admin.id, '/revoke', { ids: [created.id], reason });
    // The use is written behind its answer.
    for (let tries = 0; tries < 100; tries += 1) {
      const token = await stores.platformTokens.find(created.id, { all: true });
      if (token?.lastUsedAt) return created.id;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error('the exchange was not recorded');
  }

  const member = await person('Ada Lovelace', [[busy, 'member']]);
  const admin = await person('Grace Hopper', [
    [busy, 'admin'],
    [quiet, 'admin'],
  ]);
  const colleague = await person('Maximilian Wolfeschlegelsteinhausenbergerdorff', [[busy, 'member']]);
  const guest = await person('Alan Turing', []);
  const revokedTokenId = await createAndRevoke();
  for (const traits of tokensOfMember) await token(member.id, traits);
  await token(colleague.id, { name: 'Reports', service: 'strings', createdDaysAgo: 12 });
  const kinds = [...services.keys()];
  for (let serial = 0; serial < 20; serial += 1) {
    const service = String(kinds[serial % kinds.length]);
    await token(admin.id, { name: `Agent ${serial + 1}`, service, createdDaysAgo: 20 + serial });
  }
  return {
    people: { member, admin, guest },
    organizations: { busy, quiet },
    revokedTokenId,
  };
}
