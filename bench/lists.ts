import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { importJWK, SignJWT } from 'jose';
import { v7 as uuidv7 } from 'uuid';
import { readConfig } from '../config/env.ts';
import { createKeyTimes } from '../server/domain/key-schedule.ts';
import { createKeyRing } from '../server/keys/key-ring.ts';
import { createSealer } from '../server/keys/sealing.ts';
import { createDatabase } from '../server/storage/database.ts';
import { createStores } from '../server/storage/stores.ts';
import { type Filled, fillLists, services, sizes, uniqueName } from './lists-fixture.ts';
import { type Cleanup, createEnvironment, issuer, run, say, startCandidate, startDatabase } from './stage.ts';

/** How long the lists of a large organization take, over HTTP, for an admin of it and for a member with many old tokens. */

const targetMs = 100;
const warmUps = 5;
const sorts = ['created_at', 'name', 'last_used_at', 'expires_at'].flatMap((sort) => [sort, `-${sort}`]);

/** A request that is measured, by what it asks and its path below the server. */
interface Case {
  readonly title: string;
  readonly path: string;
}

interface Measured {
  readonly title: string;
  readonly total: number;
  readonly p50: number;
  /** The second slowest: of 50 requests what a 99th percentile would be. */
  readonly second: number;
  readonly max: number;
}

interface Answer {
  readonly body: { readonly data?: unknown[]; readonly total?: number };
  readonly next: string | undefined;
  readonly prev: string | undefined;
}

type Get = (path: string) => Promise<Answer>;

async function main(cleanup: Cleanup): Promise<boolean> {
  const { values } = parseArgs({
    options: { requests: { type: 'string', default: '50' }, only: { type: 'string', default: '' } },
  });
  if (!/^[1-9]\d{1,3}$/.test(values.requests)) throw new Error('--requests must be a number from 10 to 9999');
  const { directory, connectionString } = await startDatabase(cleanup);
  const database = createDatabase({ connectionString, limited: false });
  cleanup.add(() => database.close());
  say(`filling ${sizes.tokens} platform tokens of one organization, ${sizes.otherTokens} of others`);
  const filled = await fillLists(database);
  const environment = createEnvironment(connectionString, directory);
  const { port } = await startCandidate('product', environment, directory, cleanup);
  const sign = await createSigner(database, environment);

  const { adminId, memberId } = filled;
  const measured: Measured[] = [];
  for (const [who, id] of [
    ['admin', adminId],
    ['member', memberId],
  ] as const) {
    const get = createGet(port, await sign(id));
    say(`measuring as ${who}`);
    const cases = [...(await tokenCases(get)), ...(await otherCases(get, filled, who === 'admin'))];
    for (const { title, path } of cases.filter((one) => one.title.includes(values.only)))
      measured.push(await measure(get, `${who}  ${title}`, path, Number(values.requests)));
  }
  process.stdout.write(print(measured));
  return measured.every(({ second }) => second <= targetMs);
}

/** Every order: its first page, one in the middle, the last one, and the one before it, by the way back. */
async function tokenCases(get: Get): Promise<Case[]> {
  const cases: Case[] = [];
  for (const sort of sorts) {
    const first = `/admin/tokens?limit=50&sort=${sort}`;
    const pages: string[] = [];
    for (
      let next: string | undefined = first.replace('limit=50', 'limit=100');
      next;
      next = (await get(next)).next
    )
      pages.push(next);
    const fifty = (page: string | undefined) => String(page).replace('limit=100', 'limit=50');
    const last = pages.at(-1);
    cases.push(
      { title: `${sort}, first page`, path: first },
      { title: `${sort}, middle`, path: fifty(pages[pages.length >> 1]) },
      { title: `${sort}, last page`, path: String(last) },
      { title: `${sort}, back from it`, path: fifty((await get(String(last))).prev) },
    );
  }
  return cases;
}

async function otherCases(
  get: Get,
  { organizationId, colleagueId, memberId, tokenId }: Filled,
  isAdmin: boolean,
): Promise<Case[]> {
  const tokens = (title: string, query: string) => ({ title, path: `/admin/tokens?${query}` });
  const trail = `/admin/audit-events?token_id=${tokenId}`;
  const later = (await get(`${trail}&limit=100`)).next;
  const to = new Date(Date.now() - (sizes.exchanges / 2) * 5 * 60_000).toISOString();
  const members = (title: string, query: string) => ({
    title,
    path: `/admin/organizations/${organizationId}/members?${query}`,
  });
  return [
    tokens('q of many', 'q=deploy'),
    tokens('q of many, by name', 'q=deploy&sort=name'),
    tokens('q of one', `q=${encodeURIComponent(uniqueName)}`),
    tokens('q of none', 'q=nothing'),
    tokens('one service', `service=${services[0]}`),
    tokens('two services, by name', `service=${services[0]}&service=${services[1]}&sort=name`),
    ...['active', 'expired', 'revoked'].map((status) => tokens(`status ${status}`, `status=${status}`)),
    tokens('every status, by last use', 'status=active&status=expired&status=revoked&sort=-last_used_at'),
    tokens('a member', `user_id=${memberId}`),
    tokens('another member', `user_id=${colleagueId}`),
    tokens('all filters', `user_id=${memberId}&service=${services[0]}&status=expired&q=deploy&sort=name`),
    { title: 'the trail of a token', path: trail },
    { title: 'the trail of a token, second page', path: String(later) },
    { title: 'the trail of a token, half of it', path: `${trail}&to=${to}` },
    { title: 'the trail of a token, creations', path: `${trail}&action=token.created` },
    { title: 'the whole trail', path: '/admin/audit-events' },
    { title: 'services', path: '/admin/services' },
    { title: 'me', path: '/admin/me' },
    // To everybody else an organization's members do not exist.
    ...(isAdmin
      ? [
          members('members', 'limit=100'),
          members('members, q of many', 'q=person'),
          members('members, q of few', 'q=person%2042'),
          members('members, q of none', 'q=nobody'),
          members('two members by id', `user_id=${memberId}&user_id=${colleagueId}`),
        ]
      : []),
  ];
}

async function measure(get: Get, title: string, path: string, requests: number): Promise<Measured> {
  for (let n = 0; n < warmUps; n += 1) await get(path);
  const times: number[] = [];
  let total = 0;
  for (let n = 0; n < requests; n += 1) {
    const start = performance.now();
    const { body } = await get(path);
    times.push(performance.now() - start);
    total = body.total ?? 1;
  }
  times.sort((a, b) => a - b);
  const [p50 = Number.NaN, second = Number.NaN, max = Number.NaN] = [
    times[times.length >> 1],
    times.at(-2),
    times.at(-1),
  ];
  return { title, total, p50, second, max };
}

/** Takes a path, or a link of the answer before. */
function createGet(port: number, token: string): Get {
  return async (path) => {
    const response = await fetch(`http://127.0.0.1:${port}${path.replace(issuer, '')}`, {
      headers: { authorization: `Bearer ${token}` },
    });
    const text = await response.text();
    if (response.status !== 200) throw new Error(`${path}: ${response.status} ${text}`);
    const links = [...(response.headers.get('link') ?? '').matchAll(/<([^>]+)>; rel="(\w+)"/g)];
    const to = (rel: string) => links.find(([, , named]) => named === rel)?.[1];
    return { body: JSON.parse(text), next: to('next'), prev: to('prev') };
  };
}

/** Access tokens as the code flow gives them, each with a grant that the admin API asks for. */
async function createSigner(
  database: Parameters<typeof createStores>[0],
  environment: ReturnType<typeof createEnvironment>,
) {
  const { signingKeys, artifacts } = createStores(database, () => {});
  const config = readConfig(environment);
  const keyRing = await createKeyRing({
    signingKeys,
    sealer: createSealer(config.keyEncryptionKeys),
    alg: config.signingAlg,
    times: createKeyTimes(config.keyRotationDays),
    clock: () => new Date(),
  });
  const keySet = keyRing.keySet();
  const [jwk] = keySet.privateJwks;
  if (!jwk) throw new Error('the server has made no key');
  const key = await importJWK(jwk, keySet.alg);
  return async (userId: string): Promise<string> => {
    const idDigest = randomBytes(32);
    const expiresAt = new Date(Date.now() + 60 * 60 * 1000);
    const grant = { kind: 'Grant', idDigest, payload: '', uidDigest: null, grantDigest: null, expiresAt };
    await artifacts.upsert(grant);
    return new SignJWT({
      client_id: 'dashboard',
      scope: 'tokens:read tokens:write',
      grant_id: idDigest.toString('base64url'),
    })
      .setProtectedHeader({ alg: keySet.alg, kid: String(jwk.kid), typ: 'at+jwt' })
      .setIssuer(issuer)
      .setAudience(`${issuer}/admin`)
      .setSubject(userId)
      .setJti(uuidv7())
      .setIssuedAt()
      .setExpirationTime(expiresAt)
      .sign(key);
  };
}

function print(measured: readonly Measured[]): string {
  const width = Math.max(...measured.map(({ title }) => title.length));
  const cell = (value: string) => value.padStart(8);
  const lines = measured.map(({ title, total, p50, second, max }) =>
    [
      title.padEnd(width),
      cell(String(total)),
      ...[p50, second, max].map((ms) => cell(ms.toFixed(1))),
      second > targetMs ? 'TOO SLOW' : '',
    ].join('  '),
  );
  const slow = measured.filter(({ second }) => second > targetMs).length;
  return [
    '',
    ['request'.padEnd(width), ...['rows', 'p50 ms', '2nd ms', 'max ms'].map(cell)].join('  '),
    ...lines.map((line) => line.trimEnd()),
    '',
    `${slow} of ${measured.length} over ${targetMs} ms, by their second slowest request.`,
    '',
  ].join('\n');
}

await run(main);
