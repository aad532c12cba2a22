import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHarness, type Harness } from '../../support/harness.ts';
import { listen } from './support.ts';

/** The package as others get it: packed, installed into an empty project, used by the snippets of its own README. */

const execute = promisify(execFile);
const issuer = 'https://id.example.com';
const api = 'https://api.example.com';

let harness: Harness;
let products: Awaited<ReturnType<typeof listen>>;
let project: string;
let token: string;
const calls: (string | undefined)[] = [];
const snippets = new Map<string, string>();
let packed: { files: { path: string }[]; unpackedSize: number };

beforeAll(async () => {
  harness = await createHarness();
  ({ token } = await harness.build.platformToken());
  products = await listen((request, response) => {
    calls.push(request.headers.authorization);
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"projects":[]}');
  });
  project = await mkdtemp(join(tmpdir(), 'platform-tokens-client-'));
  const { stdout } = await execute('npm', ['pack', '--json', '--pack-destination', project], {
    cwd: 'sdk/client',
  });
  // What the build says comes first.
  const answer = JSON.parse(stdout.slice(stdout.search(/^[[{]/m))) as unknown;
  packed = Object.values(answer as Record<string, typeof packed>)[0] as typeof packed;
  await writeFile(join(project, 'package.json'), '{"name":"empty","private":true,"type":"module"}');
  const { filename } = packed as unknown as { filename: string };
  await execute('npm', ['install', '--offline', '--no-audit', '--no-fund', `./${filename}`], {
    cwd: project,
  });
  const readme = await readFile(join(project, 'node_modules/@platform-tokens/client/README.md'), 'utf8');
  for (const [, text = '', name = ''] of readme.matchAll(
    /^```\w+\n((?:\/\/|#) (\S+\.(?:js|sh))\n.*?)^```/gms,
  )) {
    snippets.set(name, text);
  }
}, 120_000);
afterAll(async () => {
  await products.close();
  await harness.close();
  await rm(project, { recursive: true, force: true });
});

/** A snippet as it stands, but for whom it talks to. */
async function place(name: string): Promise<string> {
  const text = snippets.get(name) ?? '';
  const path = join(project, name);
  await writeFile(path, text.replaceAll(issuer, harness.url).replaceAll(api, products.url));
  return path;
}

const environment = () => ({ PATH: process.env.PATH, HOME: project, PLATFORM_TOKEN: token });

it('holds its README and what was built, and nothing else', () => {
  const paths = packed.files.map(({ path }) => path);
  expect(paths.filter((path) => !/^dist\/[\w-]+\.(d\.ts|js)$/.test(path)).sort()).toEqual([
    'README.md',
    'package.json',
  ]);
  expect(paths).toContain('dist/index.d.ts');
  expect(packed.unpackedSize).toBeLessThan(100_000);
});

it('brings no other package along', async () => {
  const { stdout } = await execute('npm', ['ls', '--all', '--json'], { cwd: project });
  const { dependencies } = JSON.parse(stdout);
  expect(Object.keys(dependencies)).toEqual(['@platform-tokens/client']);
  expect(dependencies['@platform-tokens/client']).not.toHaveProperty('dependencies');
});

it('its core knows no module of Node.js', async () => {
  for (const { path } of packed.files) {
    if (!path.endsWith('.js') || path === 'dist/command.js') continue;
    const text = await readFile(join(project, 'node_modules/@platform-tokens/client', path), 'utf8');
    expect(text).not.toMatch(/['"]node:|\bprocess\.|\bBuffer\.|\brequire\(/);
  }
});

describe('the snippets of the README', () => {
  it('are these', () => {
    expect([...snippets.keys()]).toEqual(['token.js', 'request.js', 'errors.js', 'exchange.sh']);
  });

  it.each([
    ['token.js', /^an access token of \d{3,4} characters\n$/],
    ['request.js', /^200 \{ projects: \[\] \}\n$/],
    ['errors.js', /^ready\n$/],
  ])('%s runs', async (name, output) => {
    const { stdout, stderr } = await execute(process.execPath, [await place(name)], {
      cwd: project,
      env: environment(),
    });
    expect(stdout).toMatch(output);
    expect(stderr).toBe('');
  });

  it('errors.js says what to do about a dead token', async () => {
    const { stderr } = await execute(process.execPath, [await place('errors.js')], {
      cwd: project,
      env: { ...environment(), PLATFORM_TOKEN: 'ptk_dead' },
    });
    expect(stderr).toBe('Generate a new platform token.\n');
  });

  it('exchange.sh runs', async () => {
    await writeFile(join(project, 'platform-token.txt'), `${token}\n`);
    calls.length = 0;
    const { PLATFORM_TOKEN: _, ...env } = environment();
    const { stdout } = await execute('sh', ['-eu', await place('exchange.sh')], { cwd: project, env });
    expect(stdout).toBe('{"projects":[]}');
    expect(calls).toEqual([expect.stringMatching(/^Bearer eyJ/)]);
  });

  // The oldest and the newest compiler that are at hand.
  it.each(['dashboard/node_modules/typescript', 'node_modules/typescript'])(
    'are TypeScript too, by %s',
    async (compiler) => {
      const from = join(project, 'typescript');
      await rm(from, { recursive: true, force: true });
      await mkdir(from);
      for (const name of ['token', 'request', 'errors'])
        await cp(await place(`${name}.js`), join(from, `${name}.ts`));
      await writeFile(
        join(from, 'web.ts'),
        `import { createTokenSource, type TokenSource } from '@platform-tokens/client';
         const source: TokenSource = createTokenSource({ issuer: '${issuer}', platformToken: async () => 'x', fetch });
         const plain: typeof fetch = source.fetch;
         export const response: Promise<Response> = plain('/');
         // @ts-expect-error neither issuer nor tokenEndpoint
         createTokenSource({ platformToken: 'x' });
         // @ts-expect-error misspelt
         createTokenSource({ issuer: '${issuer}', platformToken: 'x', origin: [] });`,
      );
      const common = {
        strict: true,
        noEmit: true,
        exactOptionalPropertyTypes: true,
        skipLibCheck: false,
        target: 'es2022',
        module: 'nodenext',
      };
      const check = async (files: string[], options: object) => {
        await writeFile(
          join(from, 'tsconfig.json'),
          JSON.stringify({ compilerOptions: { ...common, ...options }, files }),
        );
        const program = resolve(compiler, 'bin/tsc');
        await execute(process.execPath, [program, '--project', from], { cwd: from }).catch(({ stdout }) => {
          throw new Error(stdout);
        });
      };
      await check(['token.ts', 'request.ts', 'errors.ts', 'web.ts'], {
        lib: ['es2022'],
        types: ['node'],
        typeRoots: [resolve('node_modules/@types')],
      });
      // Where there are no types of Node.js: a browser's, a worker's.
      await check(['web.ts'], { lib: ['es2022', 'dom'], types: [] });
    },
    60_000,
  );
});
