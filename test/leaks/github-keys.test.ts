import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createGitHubKeys, type GitHubKeys, GitHubKeysError } from '../../server/leaks/github-keys.ts';

let server: Server;
let keys: GitHubKeys;
let now: number;
let fetches: (string | undefined)[];
let failures: unknown[];
let answer: (response: ServerResponse, request: IncomingMessage) => void;

const pem = () =>
  generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).publicKey.export({ type: 'spki', format: 'pem' });
const list =
  (identifiers: string[], headers: Record<string, string> = {}) =>
  (response: ServerResponse) => {
    response.writeHead(200, headers);
    const public_keys = identifiers.map((key_identifier) => ({
      key_identifier,
      key: pem(),
      is_current: true,
    }));
    response.end(JSON.stringify({ public_keys }));
  };
const status = (code: number) => (response: ServerResponse) => void response.writeHead(code).end();
const known = async (identifier: string) => (await keys.find(identifier)) !== undefined;

beforeEach(async () => {
  fetches = [];
  failures = [];
  now = Date.parse('2026-01-01');
  server = createServer((request, response) => {
    fetches.push(request.headers['if-none-match']);
    answer(response, request);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  keys = createGitHubKeys({ url, clock: () => new Date(now), onError: (error) => failures.push(error) });
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

it.each<[string, typeof answer]>([
  ['another status', status(500)],
  ['a redirect', (response) => void response.writeHead(302, { location: '/elsewhere' }).end()],
  ['no JSON', (response) => void response.end('hello')],
  ['another shape', (response) => void response.end('{"public_keys":{}}')],
  ['too much', (response) => void response.end(' '.repeat(70_000))],
  ['no end', (response) => void response.write('{')],
  ['an abrupt end', (response) => void response.destroy()],
])('from %s no key comes, and it is not asked again at once', async (_what, given) => {
  answer = given;
  await expect(keys.find('a')).rejects.toThrow(GitHubKeysError);
  await expect(keys.find('a')).rejects.toThrow(GitHubKeysError);
  expect([fetches.length, failures.length]).toEqual([1, 1]);
  answer = list(['a']);
  now += 11_000;
  expect(await known('a')).toBe(true);
});

it('keeps keys as long as max-age says, and asks by their entity tag', async () => {
  answer = list(['a'], { 'cache-control': 'public, max-age=600, s-maxage=5', etag: '"x"' });
  expect(await known('a')).toBe(true);
  now += 599_000;
  expect([await known('a'), fetches.length]).toEqual([true, 1]);
  now += 2_000;
  answer = status(304);
  expect([await known('a'), fetches]).toEqual([true, [undefined, '"x"']]);
});

it('asks once for an unknown identifier, and no sooner again than after the cool-down', async () => {
  answer = list(['a'], { 'cache-control': 'max-age=600' });
  expect(await known('a')).toBe(true);
  expect([await known('b'), fetches.length]).toEqual([false, 1]);
  now += 301_000;
  expect([await known('b'), await known('c'), fetches.length]).toEqual([false, false, 2]);
  answer = list(['a', 'b']);
  now += 301_000;
  expect([await known('b'), fetches.length]).toEqual([true, 3]);
});

it('asks GitHub twelve times an hour at most, whoever asks, and though it refuses: it allows sixty', async () => {
  answer = list(['a'], { 'cache-control': 'max-age=60' });
  expect(await known('a')).toBe(true);
  const ask = async () => {
    const before = fetches.length;
    for (let second = 0; second < 3_600; second += 5) {
      now += 5_000;
      expect(await known('a')).toBe(true);
      await known(`unknown-${second}`).catch(() => {});
    }
    return fetches.length - before;
  };
  expect(await ask()).toBeLessThanOrEqual(12);
  answer = status(429);
  expect(await ask()).toBeLessThanOrEqual(12);
});

it('asks once for many callers at once', async () => {
  answer = list(['a']);
  expect(new Set(await Promise.all(Array.from({ length: 50 }, () => known('a'))))).toEqual(new Set([true]));
  expect(fetches).toHaveLength(1);
});

it('goes by older keys for a day while GitHub is away, then by none', async () => {
  answer = list(['a']);
  expect(await known('a')).toBe(true);
  answer = status(503);
  now += 23 * 3_600_000;
  expect(await known('a')).toBe(true);
  now += 2 * 3_600_000;
  await expect(keys.find('a')).rejects.toThrow(GitHubKeysError);
});

it('does not take a key for unknown while it cannot ask GitHub', async () => {
  answer = list(['a'], { 'cache-control': 'max-age=3600' });
  expect(await known('a')).toBe(true);
  answer = status(503);
  now += 301_000;
  await expect(keys.find('b')).rejects.toThrow(GitHubKeysError);
  await expect(keys.find('b')).rejects.toThrow(GitHubKeysError);
  expect([await known('a'), fetches.length]).toEqual([true, 2]);
  answer = list(['a', 'b']);
  now += 301_000;
  expect([await known('b'), await known('c')]).toEqual([true, false]);
});

it('keeps a key no longer than GitHub lists it', async () => {
  answer = list(['a', 'b']);
  expect(await known('b')).toBe(true);
  answer = list(['a']);
  now += 301_000;
  expect([await known('b'), await known('a')]).toEqual([false, true]);
});
