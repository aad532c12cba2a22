import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findFreePort } from '../../support/harness.ts';
import { jwks, settings, statusLists, vectors } from './vectors.ts';

/** Snippets of the kit's README, as they are there. */
const [plain = '', koa = '', express = '', fastify = '', web = ''] = [
  ...readFileSync('sdk/verifier/README.md', 'utf8').matchAll(/^```js\n([\s\S]*?)^```$/gm),
].map(([, code]) => code);

const jwtOf = (name: string): string => {
  const vector = vectors.find((one) => one.name === name);
  if (!vector) throw new Error(`no vector ${name}`);
  return vector.jwt;
};
const good = jwtOf('signed with ES256');

let project: string;
const npm = (...args: string[]): string =>
  execFileSync('npm', args, {
    encoding: 'utf8',
    env: { ...process.env, npm_config_cache: join(project, '.npm'), npm_config_update_notifier: 'false' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
/** @returns path of the tarball */
const pack = (...what: string[]): string => {
  const lines = npm('pack', ...what, '--silent', '--pack-destination', project)
    .trim()
    .split('\n');
  return join(project, lines.at(-1) ?? '');
};

beforeAll(() => {
  project = mkdtempSync(join(tmpdir(), 'platform-tokens-package-'));
  // The registry is left out: what the package depends on is packed from here too.
  const tarballs = [
    pack('--workspace', '@platform-tokens/verifier'),
    pack(resolve('node_modules/jose'), '--ignore-scripts'),
  ];
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }');
  npm('install', '--prefix', project, '--offline', '--no-audit', '--no-fund', ...tarballs);
  // What a product has of its own.
  mkdirSync(join(project, 'node_modules/@types'));
  for (const name of ['koa', 'express', 'fastify', '@types/koa', '@types/express', '@types/node']) {
    symlinkSync(resolve('node_modules', name), join(project, 'node_modules', name));
  }
  for (const [name, code] of Object.entries({ plain, koa, express, fastify, web })) {
    writeFileSync(join(project, `${name}.js`), code);
    writeFileSync(join(project, `${name}-typed.ts`), code);
  }
  // The issuer of the vectors instead of the network, at their time.
  writeFileSync(
    join(project, 'issuer.js'),
    `const documents = ${JSON.stringify({ ...statusLists, [`${settings.issuer}/oauth/jwks`]: JSON.stringify(jwks) })};
     globalThis.fetch = async (url) => new Response(documents[String(url)], { status: String(url) in documents ? 200 : 404 });
     Date.now = () => 1_800_000_000_000;`,
  );
});
afterAll(() => rmSync(project, { recursive: true, force: true }));

const environment = (more: Record<string, string>) => ({ PATH: process.env.PATH, ...more });
const run = (file: string, more: Record<string, string> = {}): string =>
  execFileSync(process.execPath, ['--import', './issuer.js', file], {
    cwd: project,
    env: environment(more),
    encoding: 'utf8',
  });

describe('the package', () => {
  it('has the built files, the README and nothing else', () => {
    const list = execFileSync('tar', ['-tzf', join(project, 'platform-tokens-verifier-0.1.0.tgz')], {
      encoding: 'utf8',
    });
    const files = list
      .trim()
      .split('\n')
      .map((name) => name.slice('package/'.length))
      .sort();
    expect(files.filter((name) => !/^dist\/[\w-]+\.(?:js|d\.ts)$/.test(name))).toEqual([
      'README.md',
      'package.json',
    ]);
    for (const entry of ['index', 'koa', 'express', 'fastify', 'fetch']) {
      expect(files).toEqual(expect.arrayContaining([`dist/${entry}.js`, `dist/${entry}.d.ts`]));
    }
  });

  it('depends on jose alone', () => {
    const { dependencies } = JSON.parse(readFileSync('sdk/verifier/package.json', 'utf8')) as {
      dependencies: object;
    };
    expect(Object.keys(dependencies)).toEqual(['jose']);
  });
});

describe("the README's snippet", () => {
  it('gives the claims, or says how to answer', () => {
    expect(run('plain.js', { ACCESS_TOKEN: good })).toMatch(
      /^01890a5d-ac96-774b-bcce-b302099a8057 \S+ tms:read tms:write\n$/,
    );
    expect(run('plain.js', { ACCESS_TOKEN: jwtOf('revoked') })).toMatch(
      /^401 invalid_token revoked Bearer realm=/,
    );
    expect(run('plain.js', { ACCESS_TOKEN: jwtOf('scope another') })).toMatch(
      /^403 insufficient_scope scope Bearer realm=/,
    );
  });

  it.each(['koa', 'express', 'fastify'])('for %s serves those with a token', async (framework) => {
    const port = await findFreePort();
    const child: ChildProcess = spawn(process.execPath, ['--import', './issuer.js', `${framework}.js`], {
      cwd: project,
      env: environment({ PORT: String(port) }),
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    try {
      const ask = (headers: Record<string, string>) =>
        fetch(`http://localhost:${port}/`, { headers }).catch(() => undefined);
      await expect.poll(() => ask({})).toBeDefined();
      const refused = await ask({});
      expect([refused?.status, refused?.headers.get('www-authenticate')]).toEqual([
        401,
        'Bearer realm="https://api.example.com/tms"',
      ]);
      const served = await ask({ authorization: `Bearer ${good}` });
      expect(await served?.json()).toEqual({ user: '01890a5d-ac96-774b-bcce-b302099a8057' });
    } finally {
      child.kill();
    }
  });

  it('for Fetch serves those with a token', () => {
    writeFileSync(
      join(project, 'web-run.js'),
      `import app from './web.js';
       for (const authorization of ['', 'Bearer ${good}']) {
         const answer = await app.fetch(new Request('https://api.example.com/x', { headers: { authorization } }));
         console.log(answer.status, await answer.text());
       }`,
    );
    expect(run('web-run.js').trim().split('\n')).toEqual([
      '401 ',
      '200 {"user":"01890a5d-ac96-774b-bcce-b302099a8057","url":"https://api.example.com/x"}',
    ]);
  });

  it.each([
    ['TypeScript 7', 'node_modules/typescript/bin/tsc'],
    ['TypeScript 5.9', 'dashboard/node_modules/typescript/bin/tsc'],
  ])(
    'is well typed in %s, and claims are what they are',
    (_version, tsc) => {
      writeFileSync(
        join(project, 'claims-typed.ts'),
        `import { type AccessTokenClaims, createVerifier, type Verifier } from '@platform-tokens/verifier';
       const verifier: Verifier = createVerifier({ issuer: 'https://id.example.com', audience: 'a' });
       const claims: AccessTokenClaims = await verifier.verify('');
       export const texts: [string, string | undefined, number] = [claims.sub, claims.org_id, claims.exp];
       // @ts-expect-error: no such option
       createVerifier({ issuer: '', audience: '', secret: 'x' });
       // @ts-expect-error: may be missing
       export const scope: string = claims.scope;`,
      );
      const options =
        '--noEmit --strict --module nodenext --target es2022 --lib es2022,dom --types node'.split(' ');
      const files = ['plain', 'koa', 'express', 'fastify', 'web', 'claims'].map((name) => `${name}-typed.ts`);
      const check = (...more: string[]) => {
        try {
          return execFileSync(process.execPath, [resolve(tsc), ...options, ...more], {
            cwd: project,
            encoding: 'utf8',
          });
        } catch (error) {
          return String((error as { stdout: string }).stdout);
        }
      };
      expect(check('--skipLibCheck', ...files)).toBe('');
      // And with the package's own declarations looked at.
      expect(check('claims-typed.ts')).toBe('');
    },
    60_000,
  );
});
