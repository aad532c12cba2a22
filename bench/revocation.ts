import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { inflateSync } from 'node:zlib';
import { decodeJwt } from 'jose';
import { policy } from '../config/policy.ts';
import { createVerifier, VerificationError } from '../sdk/verifier/src/index.ts';
import { digestPlatformToken } from '../server/domain/platform-token.ts';
import { referenceOf, statusListSize } from '../server/domain/status-list.ts';
import { createDatabase, type Database } from '../server/storage/database.ts';
import { fill } from './fixture.ts';
import { positiveNumber } from './options.ts';
import { type Cleanup, createEnvironment, issuer, run, say, startCandidate, startDatabase } from './stage.ts';
import { median, table } from './statistics.ts';

/**
 * What revocation costs and how fast it arrives: the size of each status list and the time to build it, with a million
 * tokens of which 10,000 are revoked; and the seconds from the 204 of a deletion to the first refusal by a verifier, with
 * real clocks, two instances, and a verifier kit for each deletion that asks them in turn.
 */

const adminSecret = 'a secret of this benchmark alone';
const targetSeconds = policy.statusListTtl + 15;

interface Options {
  readonly tokens: number;
  readonly revoked: number;
  readonly rounds: number;
  readonly deletions: number;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      tokens: { type: 'string', default: '1000000' },
      revoked: { type: 'string', default: '10000' },
      rounds: { type: 'string', default: '5' },
      deletions: { type: 'string', default: '24' },
    },
  });
  return {
    tokens: positiveNumber('tokens', values.tokens),
    revoked: positiveNumber('revoked', values.revoked),
    rounds: positiveNumber('rounds', values.rounds),
    deletions: positiveNumber('deletions', values.deletions),
  };
}

async function main(options: Options, cleanup: Cleanup): Promise<boolean> {
  const { directory, connectionString } = await startDatabase(cleanup);
  const database = createDatabase({ connectionString, limited: false });
  cleanup.add(() => database.close());
  say(`filling ${options.tokens} platform tokens, of which ${options.revoked} are revoked`);
  const tokens = await fill(database, options.tokens, options.deletions);
  const spared = tokens.map(digestPlatformToken);
  // Spread as by chance, which compresses worst, and the same in every run.
  await database.knex.raw(
    `UPDATE platform_tokens SET revoked_at = now(), revoked_by = 'bench' WHERE id IN (
       SELECT id FROM platform_tokens WHERE digest <> ALL(?) ORDER BY hashint8(status_index) LIMIT ?)`,
    [spared, options.revoked],
  );
  await database.knex.raw('VACUUM ANALYZE');

  const environment = {
    ...createEnvironment(connectionString, directory),
    ADMIN_CLIENT_SECRET: adminSecret,
  };
  const instances = [
    await startCandidate('product', environment, directory, cleanup),
    await startCandidate('product', environment, directory, cleanup),
  ].map(({ port }) => `http://127.0.0.1:${port}`);
  const [first = ''] = instances;

  const lists = await measureLists(database, first, spared, options);
  process.stdout.write(printLists(lists, options));
  const delays = await measureDelays(instances, tokens);
  process.stdout.write(printDelays(delays));
  return delays.every((seconds) => seconds <= targetSeconds);
}

interface ListMeasured {
  readonly list: number;
  readonly revoked: number;
  /** Of the signed token, as it is sent, in bytes. */
  readonly bytes: number;
  /** Of the compressed bits, in bytes. */
  readonly compressed: number;
  readonly buildMs: number;
  readonly cachedMs: number;
}

/** Every round revokes one more token of each list, so that each is read, compressed and signed anew. */
async function measureLists(
  database: Database,
  url: string,
  spared: readonly Buffer[],
  options: Options,
): Promise<ListMeasured[]> {
  const count = referenceOf(options.tokens - 1).list + 1;
  const get = async (list: number) => {
    const start = performance.now();
    const response = await fetch(`${url}/oauth/status-lists/${list}`);
    const jwt = await response.text();
    if (response.status !== 200) throw new Error(`list ${list}: ${response.status} ${jwt}`);
    return { jwt, ms: performance.now() - start };
  };
  const built = Array.from({ length: count }, (): number[] => []);
  const cached = Array.from({ length: count }, (): number[] => []);
  const last: string[] = [];
  for (let round = 0; round < options.rounds; round += 1) {
    for (let list = 0; list < count; list += 1) {
      await database.knex.raw(
        `UPDATE platform_tokens SET revoked_at = now(), revoked_by = 'bench' WHERE id = (
           SELECT id FROM platform_tokens WHERE revoked_at IS NULL AND status_index >= ? AND digest <> ALL(?)
           ORDER BY status_index LIMIT 1)`,
        [list * statusListSize, [...spared]],
      );
    }
    // What the server has kept is too old by now.
    await sleep(policy.statusListMaxAge * 1000 + 100);
    for (let list = 0; list < count; list += 1) {
      const { jwt, ms } = await get(list);
      if (jwt === last[list]) throw new Error(`list ${list} was not built anew`);
      last[list] = jwt;
      built[list]?.push(ms);
      cached[list]?.push((await get(list)).ms);
    }
    say(`round ${round + 1}/${options.rounds}`);
  }
  return last.map((jwt, list) => {
    const { status_list: claim } = decodeJwt<{ status_list: { lst: string } }>(jwt);
    const compressed = Buffer.from(claim.lst, 'base64url');
    return {
      list,
      revoked: inflateSync(compressed).reduce((sum, byte) => sum + ones(byte), 0),
      bytes: Buffer.byteLength(jwt),
      compressed: compressed.length,
      buildMs: median(built[list] ?? []),
      cachedMs: median(cached[list] ?? []),
    };
  });
}

function ones(byte: number): number {
  let count = 0;
  for (let rest = byte; rest > 0; rest >>= 1) count += rest & 1;
  return count;
}

/** @returns for each token the seconds from the 204 of its deletion to the first refusal */
async function measureDelays(instances: readonly string[], tokens: readonly string[]): Promise<number[]> {
  const authorization = `Bearer ${await adminToken(instances[0] ?? '')}`;
  say(`deleting ${tokens.length} platform tokens, one every three seconds`);
  return Promise.all(
    tokens.map(async (token, n) => {
      // As behind a balancer: every request to the next instance.
      let turn = n;
      const next = () => instances[turn++ % instances.length] ?? '';
      const verifier = createVerifier({
        issuer,
        audience: 'https://bench.example.com',
        fetch: (input, init) => fetch(String(input).replace(issuer, next()), init),
      });
      const jwt = await exchange(next(), token);
      const { token_id: id } = await verifier.verify(jwt);
      await sleep(n * 3_000);
      await verifier.verify(jwt);
      const response = await fetch(`${next()}/admin/tokens/${id}`, {
        method: 'DELETE',
        headers: { authorization },
      });
      if (response.status !== 204) throw new Error(`deletion: ${response.status}`);
      const start = performance.now();
      while (await isAccepted(verifier.verify(jwt))) {
        if (performance.now() - start > 3 * targetSeconds * 1000)
          throw new Error('a deleted token is accepted for too long');
        await sleep(50);
      }
      const seconds = (performance.now() - start) / 1000;
      say(`refused after ${seconds.toFixed(1)} s`);
      return seconds;
    }),
  );
}

const isAccepted = (verified: Promise<unknown>): Promise<boolean> =>
  verified.then(
    () => true,
    (error: unknown) => {
      if (error instanceof VerificationError && error.rule === 'revoked') return false;
      throw error;
    },
  );

async function adminToken(url: string): Promise<string> {
  return post(
    url,
    { grant_type: 'client_credentials', scope: 'admin' },
    {
      authorization: `Basic ${Buffer.from(`admin:${encodeURIComponent(adminSecret)}`).toString('base64')}`,
    },
  );
}

const exchange = (url: string, token: string): Promise<string> =>
  post(url, {
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token: token,
  });

async function post(
  url: string,
  form: Record<string, string>,
  headers: Record<string, string> = {},
): Promise<string> {
  const response = await fetch(`${url}/oauth/token`, {
    method: 'POST',
    body: new URLSearchParams(form),
    headers,
  });
  const answer = (await response.json()) as { access_token?: string };
  if (!answer.access_token) throw new Error(`${response.status} ${JSON.stringify(answer)}`);
  return answer.access_token;
}

function printLists(lists: readonly ListMeasured[], { tokens, revoked, rounds }: Options): string {
  const rows = lists.map((one) => [
    String(one.list),
    String(one.revoked),
    String(one.compressed),
    String(one.bytes),
    one.buildMs.toFixed(1),
    one.cachedMs.toFixed(1),
  ]);
  const columns = ['list', 'revoked', 'compressed bytes', 'token bytes', 'build ms', 'kept ms'];
  return [
    '',
    `${tokens} tokens, ${revoked} revoked by chance; medians of ${rounds} rounds, over HTTP`,
    table(columns, rows),
    '',
  ].join('\n');
}

function printDelays(delays: readonly number[]): string {
  const verdict = delays.every((seconds) => seconds <= targetSeconds) ? 'met' : 'MISSED';
  return [
    '',
    `from the 204 of a deletion to the first refusal, ${delays.length} times, two instances:`,
    `${Math.min(...delays).toFixed(1)} to ${Math.max(...delays).toFixed(1)} s, median ${median(delays).toFixed(1)} s  (target at most ${targetSeconds} s: ${verdict})`,
    '',
  ].join('\n');
}

await run((cleanup) => main(readOptions(), cleanup));
