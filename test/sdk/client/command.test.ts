import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { connect, createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHarness, findFreePort, type Harness } from '../../support/harness.ts';
import { listen, secret } from './support.ts';

let harness: Harness;
let token: string;
beforeAll(async () => {
  harness = await createHarness();
  ({ token } = await harness.build.platformToken());
});
afterAll(() => harness.close());

interface Run {
  readonly args?: readonly string[];
  readonly env?: Record<string, string>;
  readonly stdin?: string;
}

function start({ args = [], env = {}, stdin = '' }: Run) {
  const child = spawn(process.execPath, ['sdk/client/src/command.ts', ...args], {
    env: { PATH: String(process.env.PATH), ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  // It may have ended without reading.
  child.stdin.on('error', () => {});
  child.stdin.end(stdin);
  return child;
}

async function run(how: Run) {
  const child = start(how);
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ]);
  return { code, stdout, stderr };
}

const exchange = (...more: string[]) => ['exchange', '--issuer', harness.url, ...more];

describe('exchange', () => {
  it.each<[string, () => Run]>([
    ['from standard input', () => ({ stdin: `${token}\n` })],
    ['from the environment', () => ({ env: { PLATFORM_TOKEN: token } })],
    ['from the environment before standard input', () => ({ env: { PLATFORM_TOKEN: token }, stdin: 'else' })],
  ])('takes the platform token %s, and prints the access token alone', async (_what, how) => {
    const { code, stdout, stderr } = await run({ args: exchange(), ...how() });
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^eyJ[\w-]+\.[\w-]+\.[\w-]+\n$/);
  });

  it('prints the formats that shells, curl and programs take', async () => {
    const print = async (...more: string[]) => {
      const { code, stdout } = await run({ args: exchange(...more), stdin: token });
      expect(code).toBe(0);
      return stdout;
    };
    expect(await print('--format', 'header')).toMatch(/^Authorization: Bearer eyJ[\w.-]+\n$/);
    expect(await print('--format', 'env')).toMatch(/^ACCESS_TOKEN=eyJ[\w.-]+\n$/);
    expect(JSON.parse(await print('--format', 'json', '--scope', 'read'))).toEqual({
      access_token: expect.stringMatching(/^eyJ/),
      token_type: 'Bearer',
      expires_in: 14_400,
      scope: 'read',
    });
  });

  it.runIf(existsSync('/proc/self/cmdline'))('has the secret in no list of processes', async () => {
    // A server that holds the request, so that there is time to look.
    const waiting: ServerResponse[] = [];
    const held = await listen((_request, response) => void waiting.push(response));
    try {
      for (const how of [{ stdin: secret }, { env: { PLATFORM_TOKEN: secret } }]) {
        const child = start({ args: ['exchange', '--issuer', held.url], ...how });
        await expect.poll(() => waiting.length).toBe(1);
        const commandLine = await readFile(`/proc/${child.pid}/cmdline`, 'utf8');
        expect(commandLine).toContain('exchange');
        expect(commandLine).not.toContain(secret);
        const exited = once(child, 'exit');
        waiting.pop()?.writeHead(400).end('{"error":"invalid_request"}');
        expect(await exited).toEqual([1, null]);
      }
    } finally {
      await held.close();
    }
  });
});

describe('a refusal', () => {
  const usage = /See platform-tokens --help\n$/;

  it.each<[string, string[]]>([
    ['as an argument', ['exchange', secret]],
    ['as the value of an option', ['exchange', '--issuer', 'https://id.example.com', '--token', secret]],
    ['joined to an option', ['exchange', `--scope=${secret}`]],
    ['in the URL', ['exchange', '--issuer', `https://${secret}@id.example.com`]],
    ['as an option of its own', ['exchange', `--${secret}`]],
    ['with --help', ['--help', secret]],
    ['as a JWT', ['exchange', 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl']],
  ])('a token %s is 2, says what to do, and is not repeated', async (_what, args) => {
    const { code, stdout, stderr } = await run({ args, env: { PLATFORM_TOKEN: token } });
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain('a token is no argument');
    expect(stderr).toContain('PLATFORM_TOKEN');
    expect(stderr).not.toMatch(/s3cr3T|eyJ/);
  });

  it.each<[string, string[], RegExp]>([
    ['no command', [], /the command is "exchange"/],
    ['another command', ['revoke'], /the command is "exchange"/],
    ['an unknown option', ['exchange', '--isuer', 'x'], /an option is unknown/],
    ['no issuer', ['exchange'], /--issuer is missing/],
    ['an http: issuer', ['exchange', '--issuer', 'http://id.example.com'], /must be https:/],
    [
      'an unknown format',
      ['exchange', '--issuer', 'https://a.example', '--format', 'xml'],
      /token, json, header, env/,
    ],
    [
      'a format of every object',
      ['exchange', '--issuer', 'https://a.example', '--format', 'toString'],
      /--format/,
    ],
    [
      'a wait that is no number',
      ['exchange', '--issuer', 'https://a.example', '--max-wait', '1m'],
      /--max-wait/,
    ],
  ])('%s is 2', async (_what, args, message) => {
    const { code, stdout, stderr } = await run({ args, env: { PLATFORM_TOKEN: token } });
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(usage);
  });

  it('no platform token is 2', async () => {
    for (const stdin of ['', '\n', 'x'.repeat(20_000)]) {
      const { code, stderr } = await run({ args: exchange(), stdin });
      expect(code).toBe(2);
      expect(stderr).toMatch(usage);
    }
  });

  it('a dead token is 1, a scope that it lacks is 2', async () => {
    const dead = await run({ args: exchange(), stdin: secret });
    expect([dead.code, dead.stdout]).toEqual([1, '']);
    expect(dead.stderr).toBe(
      'platform-tokens: the token endpoint does not accept the platform token: invalid_request\n',
    );
    const scope = await run({ args: exchange('--scope', 'everything'), stdin: token });
    expect([scope.code, scope.stdout]).toEqual([2, '']);
    expect(scope.stderr).toContain('invalid_scope');
  });

  it('a server that is away is 3, after the wait and with the reason', async () => {
    const issuer = `http://127.0.0.1:${await findFreePort()}`;
    const { code, stdout, stderr } = await run({
      args: ['exchange', '--issuer', issuer, '--max-wait', '1'],
      stdin: secret,
    });
    expect([code, stdout]).toEqual([3, '']);
    expect(stderr).toMatch(/^platform-tokens: no access token for now: .*ECONNREFUSED/);
    expect(stderr).not.toContain('s3cr3T');
  });
});

it('does not outstay its wait for a server that never answers', async () => {
  const silent = await listen(() => {});
  try {
    const began = performance.now();
    const { code } = await run({
      args: ['exchange', '--issuer', silent.url, '--max-wait', '1'],
      stdin: secret,
    });
    expect(code).toBe(3);
    expect(performance.now() - began).toBeLessThan(5_000);
  } finally {
    await silent.close();
  }
});

it.runIf(existsSync('/bin/sh'))(
  'has an exit status of its own for an output that cannot be written to',
  async () => {
    for (const where of ['| true', '>/dev/full']) {
      if (where.includes('full') && !existsSync('/dev/full')) continue;
      const command = `{ "$0" sdk/client/src/command.ts exchange --issuer ${harness.url}; echo "$?" >&2; } ${where}`;
      const child = spawn('/bin/sh', ['-c', command, process.execPath], {
        env: { PATH: String(process.env.PATH), PLATFORM_TOKEN: token },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      expect(await text(child.stderr)).toBe('platform-tokens: standard output cannot be written to\n70\n');
    }
  },
);

it('waits for a server that is about to come', async () => {
  const port = await findFreePort();
  const target = new URL(harness.url);
  const running = run({ args: ['exchange', '--issuer', `http://127.0.0.1:${port}`], stdin: token });
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const door = createServer((incoming) => {
    const outgoing = connect(Number(target.port), target.hostname);
    incoming.pipe(outgoing).pipe(incoming);
    for (const socket of [incoming, outgoing]) socket.on('error', () => {});
  }).listen(port, '127.0.0.1');
  try {
    expect(await running).toMatchObject({ code: 0, stderr: '' });
  } finally {
    door.close();
  }
});

it('--help says all of it, and names the exit status', async () => {
  const { code, stdout, stderr } = await run({ args: ['--help'] });
  expect([code, stderr]).toEqual([0, '']);
  for (const word of ['PLATFORM_TOKEN', '--issuer', '--scope', '--format', '--max-wait', 'exit status']) {
    expect(stdout).toContain(word);
  }
});
