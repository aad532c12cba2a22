import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { findFreePort } from '../support/harness.ts';
import { startFlags } from '../support/start-command.ts';

export interface Measure {
  /** After a full collection of garbage, in bytes. */
  readonly heapUsed: number;
  readonly rss: number;
  /** The longest that the event loop was held since the last measure. */
  readonly delayMs: number;
  /** Seconds of CPU since its start. */
  readonly cpu: number;
}

export interface FuzzedServer {
  readonly port: number;
  /** Throws where it has ended by itself. */
  alive(): void;
  measure(): Promise<Measure>;
  stop(): Promise<number | null>;
}

/** The real process, as `npm start` runs it, with all that it prints handed on as it comes. */
export async function startServer(
  env: NodeJS.ProcessEnv,
  onOutput: (chunk: Buffer) => void,
): Promise<FuzzedServer> {
  const port = await findFreePort();
  const flags = [...startFlags, '--expose-gc', '--import', './test/fuzz/probe.ts'];
  const child = spawn(process.execPath, [...flags, 'server/main.ts'], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env, PORT: String(port) },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let last = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      last = chunk.toString().slice(-2000);
      onOutput(chunk);
    });
  }
  const alive = () => {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`the server ended (${child.exitCode ?? child.signalCode}): ${last}`);
  };
  for (;;) {
    alive();
    const ready = await fetch(`http://127.0.0.1:${port}/health/ready`).catch(() => undefined);
    await ready?.body?.cancel();
    if (ready?.status === 200) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    port,
    alive,
    async measure() {
      alive();
      const answered = once(child, 'message');
      child.send('measure');
      const [measure] = await answered;
      return measure as Measure;
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      const ended = once(child, 'close');
      child.kill('SIGTERM');
      const [code] = await ended;
      return code;
    },
  };
}
