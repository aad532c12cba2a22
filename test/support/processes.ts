import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findFreePort, postForm } from './harness.ts';
import { startFlags } from './start-command.ts';

/** The real process, started as `npm start` starts it. */

const server = [...startFlags, 'server/main.ts'];

/** For servers that one token's clients keep busy, also while they stop. */
export const underLoad = { SHUTDOWN_DELAY_SECONDS: '1', RATE_LIMIT_OVERRIDES: 'exchanges=1000000/60' };

export interface Launched {
  readonly child: ChildProcess;
  readonly output: () => string;
}

export interface Started extends Launched {
  readonly url: string;
  readonly port: number;
}

export interface Processes {
  readonly dataDir: string;
  launch(env: NodeJS.ProcessEnv, program?: readonly string[]): Launched;
  /** Launches, and waits until it is ready and has printed where it is. */
  start(env?: NodeJS.ProcessEnv): Promise<Started>;
  /** Ends what still runs. */
  close(): Promise<void>;
}

/** Servers on a DATA_DIR of their own. */
export async function createProcesses(): Promise<Processes> {
  const parent = await mkdtemp(join(tmpdir(), 'platform-tokens-start-'));
  // So that PostgreSQL's own user gets through where the tests run as root.
  await chmod(parent, 0o755);
  const dataDir = join(parent, 'data');
  const children = new Set<ChildProcess>();

  function launch(env: NodeJS.ProcessEnv, program: readonly string[] = server): Launched {
    const child = spawn(process.execPath, program, {
      env: {
        PATH: process.env.PATH,
        HOME: process.env.HOME,
        NODE_COMPILE_CACHE: 'node_modules/.cache/node',
        // Nobody sends to most of them when they are told to stop.
        SHUTDOWN_DELAY_SECONDS: '0',
        DATA_DIR: dataDir,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A process group, as a terminal makes one.
      detached: true,
    });
    children.add(child);
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (output += chunk));
    return { child, output: () => output };
  }

  return {
    dataDir,
    launch,
    async start(env = {}) {
      const port = Number(env.PORT ?? (await findFreePort()));
      const { child, output } = launch({ ...env, PORT: String(port) });
      const url = `http://127.0.0.1:${port}${env.ISSUER ? new URL(env.ISSUER).pathname.replace(/\/$/, '') : ''}`;
      for (;;) {
        if (child.exitCode !== null) throw new Error(`ended with ${child.exitCode}: ${output()}`);
        const ready = await fetch(`${url}/health/ready`).catch(() => undefined);
        if (ready?.status === 200 && output().includes('Issuer     ')) return { child, url, port, output };
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    async close() {
      for (const child of children) {
        if (child.exitCode === null && child.signalCode === null) {
          child.kill('SIGTERM');
          await once(child, 'exit');
        }
      }
      await rm(parent, { recursive: true, force: true });
    },
  };
}

/** @returns the exit code, once all that it wrote has been read */
export async function stop({ child }: Launched, signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
  const ended = once(child, 'close');
  child.kill(signal);
  const [code] = await ended;
  return code;
}

export const printed = (output: string, pattern: RegExp) => pattern.exec(output)?.[1] ?? '';

/** The machine administrator of the environment. */
export async function administrator(url: string, secret: string) {
  const form = {
    grant_type: 'client_credentials',
    scope: 'admin',
    client_id: 'admin',
    client_secret: secret,
  };
  const { access_token: token } = (await (await postForm(url, form)).json()) as { access_token: string };
  const send = (method: string, path: string, body?: unknown) =>
    fetch(url + path, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const post = (path: string, body: unknown) => send('POST', path, body);
  return {
    token,
    post,
    send,
    async newMember() {
      const organization = (await (await post('/admin/organizations', { name: 'Acme' })).json()) as {
        id: string;
      };
      const email = `${organization.id}@example.com`;
      const user = (await (await post('/admin/users', { email, name: 'U' })).json()) as { id: string };
      await send('PUT', `/admin/organizations/${organization.id}/members/${user.id}`, { role: 'member' });
      return { organizationId: organization.id, userId: user.id };
    },
  };
}
