import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { freePort } from '../../server/storage/embedded/postmaster.ts';
import { startFlags } from '../support/start-command.ts';

export interface Instance {
  readonly name: string;
  readonly url: string;
  readonly port: number;
  readonly pid: () => number;
  /** Whether we have ended it, so that nobody expects an answer. */
  readonly down: () => boolean;
  /** It has told a client that it goes: none comes any more, as behind a balancer. */
  leave(): void;
  readonly left: () => boolean;
  /** Waits until it is ready. */
  start(): Promise<void>;
  /** @returns the exit code */
  end(signal: NodeJS.Signals): Promise<number | null>;
  memory(): Promise<number>;
}

/** A server as a process of its own, on a port that it keeps. */
export async function createInstance(
  name: string,
  env: NodeJS.ProcessEnv,
  logFile: string,
): Promise<Instance> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  let child: ChildProcess | undefined;
  let down = true;
  let left = false;
  return {
    name,
    url,
    port,
    pid: () => Number(child?.pid),
    down: () => down,
    leave() {
      left = true;
    },
    left: () => left || down,
    async start() {
      const log = await open(logFile, 'a');
      child = spawn(process.execPath, [...startFlags, 'server/main.ts'], {
        env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env, PORT: String(port) },
        stdio: ['ignore', log.fd, log.fd],
      });
      await log.close();
      for (;;) {
        if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}: see ${logFile}`);
        const ready = await fetch(`${url}/health/ready`).catch(() => undefined);
        if (ready?.status === 200) break;
        await setTimeout(50);
      }
      down = false;
      left = false;
    },
    async end(signal) {
      if (!child || child.exitCode !== null || child.signalCode !== null) return null;
      const ended = once(child, 'exit');
      // Of one that drains, what it has taken is answered; of one that is killed, nothing.
      if (signal === 'SIGKILL') down = true;
      child.kill(signal);
      const [code] = await ended;
      down = true;
      return code;
    },
    async memory() {
      const status = await readFile(`/proc/${child?.pid}/status`, 'utf8').catch(() => '');
      return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
    },
  };
}
