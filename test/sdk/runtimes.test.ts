import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHarness, type Harness } from '../support/harness.ts';
import { listen } from './client/support.ts';
import { jwks, settings, statusLists, vectors } from './verifier/vectors.ts';

/** Paths of runtimes in `KIT_RUNTIMES`, separated by commas; without it, this one and those that are on the path. */
const runtimes = (process.env.KIT_RUNTIMES?.split(',') ?? [process.execPath, 'bun', 'deno']).flatMap(
  (path) => {
    const { status, stdout } = spawnSync(path, ['--version'], { encoding: 'utf8' });
    if (status !== 0 && process.env.KIT_RUNTIMES) throw new Error(`${path} does not run`);
    return status === 0 ? [{ path, name: `${basename(path)} ${/\d+(?:\.\d+)+/.exec(stdout)?.[0]}` }] : [];
  },
);

let harness: Harness;
let project: string;
let platformToken: string;
let audience: string;
let hostile: Awaited<ReturnType<typeof listen>>;
let other: Awaited<ReturnType<typeof listen>>;
let api: Awaited<ReturnType<typeof listen>>;

beforeAll(async () => {
  harness = await createHarness();
  const { token, service } = await harness.build.platformToken();
  [platformToken, audience] = [token, service.audience];
  hostile = await listen(answerBadly);
  other = await listen(tell);
  const refused = new Set<string | undefined>();
  api = await listen((request, response) => {
    const { authorization } = request.headers;
    if (request.url === '/redirect') {
      response.writeHead(302, { location: `${other.url}/there` }).end();
    } else if (refused.size === 0 || refused.has(authorization)) {
      // The first access token of each runtime.
      refused.add(authorization);
      response.writeHead(401).end();
    } else {
      refused.clear();
      tell(request, response);
    }
  });
  project = mkdtempSync(join(tmpdir(), 'platform-tokens-runtimes-'));
  const npm = (...args: string[]) =>
    execFileSync('npm', [...args, '--silent'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  const kits = ['--workspace', '@platform-tokens/verifier', '--workspace', '@platform-tokens/client'];
  npm('pack', ...kits, '--pack-destination', project);
  npm('pack', resolve('node_modules/jose'), '--ignore-scripts', '--pack-destination', project);
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }');
  const tarballs = ['platform-tokens-verifier-0.1.0', 'platform-tokens-client-0.1.0', 'jose-6.2.18'];
  const paths = tarballs.map((name) => join(project, `${name}.tgz`));
  npm('install', '--prefix', project, '--offline', '--no-audit', '--no-fund', ...paths);
  cpSync('test/sdk/runtime-scenario.js', join(project, 'scenario.js'));
  const given = {
    ...{ issuer: harness.issuer, url: harness.url, audience, platformToken },
    ...{ hostile: hostile.url, api: api.url },
    vectors: { vectors, settings, statusLists, jwks: JSON.stringify(jwks) },
  };
  writeFileSync(join(project, 'given.js'), `export default ${JSON.stringify(given)}`);
}, 120_000);
afterAll(async () => {
  for (const server of [hostile, other, api]) await server.close();
  await harness.close();
  rmSync(project, { recursive: true, force: true });
});

/** What an API is sent. */
function tell({ method, url, headers }: IncomingMessage, response: ServerResponse): void {
  response.end(JSON.stringify({ method, url, authorized: 'authorization' in headers }));
}

/** An issuer that does its worst, by the first part of the path. */
function answerBadly(request: IncomingMessage, response: ServerResponse): void {
  const how = request.url?.split('/')[1];
  if (how === 'hangs') return;
  if (how === 'redirect') return void response.writeHead(307, { location: `${other.url}/evil` }).end();
  if (how === 'page') return void response.end('<html>');
  if (how === 'bomb') {
    response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(64 * 1024 * 1024)));
    return;
  }
  const chunk = Buffer.alloc(how === 'drips' ? 1 : 64 * 1024, ' ');
  const timer = setInterval(() => response.write(chunk), how === 'drips' ? 50 : 1);
  response.once('close', () => clearInterval(timer));
}

describe.each(runtimes)('$name', ({ path }) => {
  const run = (file: string, args: readonly string[] = [], env: Record<string, string> = {}) => {
    const deno = [
      'run',
      '--no-prompt',
      '--node-modules-dir=manual',
      '--allow-net',
      '--allow-env',
      '--allow-read',
    ];
    return promisify(execFile)(path, [...(basename(path) === 'deno' ? deno : []), file, ...args], {
      cwd: project,
      env: { PATH: String(process.env.PATH), HOME: project, NO_COLOR: '1', ...env },
      timeout: 60_000,
    });
  };

  it('verifies, exchanges and withstands as it should, and ends by itself', async () => {
    const { stdout, stderr } = await run('scenario.js');
    expect(stderr).toBe('');
    const seen = JSON.parse(stdout);
    // No timer of a request that was answered keeps the process: they take 5 s and more.
    expect(Date.now() - seen.endedAt).toBeLessThan(4_000);
    expect(seen.verdicts).toEqual(Object.fromEntries(vectors.map(({ name, rule }) => [name, rule])));
    expect(seen.served).toEqual([
      [401, 'Bearer', ''],
      [200, null, '"read write"'],
      [401, 'Bearer', expect.stringContaining('invalid_token')],
    ]);
    expect(seen.refused).toBe('DeadTokenError');
    expect(seen.redirected).toEqual({ method: 'GET', url: '/there', authorized: false });
    expect(seen.retried).toEqual({ method: 'POST', url: '/retry', authorized: true });
    for (const outcomes of Object.values(seen.withstood))
      expect(outcomes).toEqual(['keys_unavailable', 'TemporaryError']);
  }, 90_000);

  it('runs the command', async () => {
    const command = 'node_modules/@platform-tokens/client/dist/command.js';
    const exchange = ['exchange', '--issuer', harness.url];
    const { stdout, stderr } = await run(command, exchange, { PLATFORM_TOKEN: platformToken });
    expect([stdout, stderr]).toEqual([expect.stringMatching(/^eyJ[\w-]+\.[\w-]+\.[\w-]+\n$/), '']);
    await expect(run(command, exchange, { PLATFORM_TOKEN: `${platformToken}x` })).rejects.toMatchObject({
      code: 1,
    });
  });
});
