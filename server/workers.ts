import type { ChildProcess } from 'node:child_process';
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import type { DestinationStream, Logger } from 'pino';
import { createGathering } from './gathering.ts';
import { StartError } from './listener.ts';
import type { Metrics } from './metrics/metrics.ts';
import type { Order, Report } from './worker-messages.ts';

export interface WorkersDeps {
  readonly count: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly output: DestinationStream;
  readonly onGivenUp: (error: Error) => void;
}

export interface Workers {
  readonly port: number;
  /** Begins with the first. From then on there are as many as there should be: whichever ends is replaced. */
  serve(connectionString: string): Promise<void>;
  /** Lets all of them finish what is in flight. */
  close(): Promise<void>;
}

/** A worker that ends sooner than this has done nothing, and its successor waits; so many in a row, and it is no use. */
const quickDeathMs = 10_000;
const quickDeathLimit = 5;
const firstPauseMs = 500;
/** Longer than a worker takes to drain and to write what waits. */
const stopLimitMs = 70_000;

/**
 * Starts the first one, which takes the port and answers that the server comes up. The others, and whichever takes
 * another's place, take connections when they can serve.
 * @throws StartError where the first one cannot start
 */
export async function openWorkers({
  count,
  logger,
  metrics,
  output,
  onGivenUp,
}: WorkersDeps): Promise<Workers> {
  cluster.setupPrimary({ stdio: ['ignore', 'pipe', 'inherit', 'ipc'] });
  const running = new Set<WorkerProcess>();
  const gathering = createGathering({
    own(silent) {
      metrics.workers.present({ wanted: count, running: running.size, silent });
      return metrics.read();
    },
    // Those that do not serve yet have counted nothing.
    running: () => [...running].filter((worker) => worker.serves()),
  });
  const order = Promise.withResolvers<Order>();
  let supervising = false;
  let stopping = false;
  let quickDeaths = 0;

  function launch(): WorkerProcess {
    const worker = startWorker(output, (report) => {
      if (report.type === 'measured') gathering.told(id, report.families);
      if (report.type !== 'gather') return;
      void gathering.gather().then((families) => worker.send({ type: 'gathered', families }));
    });
    const { id, pid } = worker;
    running.add(worker);
    metrics.workers.started();
    logger.info({ worker: id, pid }, 'worker started');
    Promise.all([order.promise, worker.waiting]).then(
      ([serve]) => worker.send(serve),
      () => {},
    );
    worker.serving.then(
      () => logger.info({ worker: id, pid }, 'worker serves'),
      () => {},
    );
    void worker.ended.then(({ livedMs, ...ending }) => {
      running.delete(worker);
      gathering.ended(id);
      if (stopping || !supervising) return;
      logger.error({ worker: id, pid, ...ending }, 'worker ended');
      quickDeaths = livedMs < quickDeathMs ? quickDeaths + 1 : 0;
      if (quickDeaths < quickDeathLimit) replace(quickDeaths);
      else onGivenUp(new Error(`${quickDeaths} workers in a row ended within ${quickDeathMs / 1000} s`));
    });
    return worker;
  }

  function replace(quickDeaths: number): void {
    const pause = quickDeaths === 0 ? 0 : firstPauseMs * 2 ** (quickDeaths - 1);
    setTimeout(() => {
      if (!stopping) launch();
    }, pause).unref();
  }

  const first = launch();
  const port = await first.waiting;
  while (running.size < count) launch();
  return {
    port,
    async serve(connectionString) {
      const serve = { type: 'serve', connectionString } as const;
      first.send(serve);
      await first.serving;
      // Only now: whoever has seen the server ready meets no worker that comes up.
      order.resolve(serve);
      supervising = true;
      while (running.size < count) launch();
    },
    async close() {
      stopping = true;
      const workers = [...running];
      const limit = setTimeout(() => {
        for (const worker of workers) worker.kill();
      }, stopLimitMs);
      for (const worker of workers) worker.stop();
      const clean = await Promise.all(workers.map(async (worker) => (await worker.ended).clean));
      clearTimeout(limit);
      if (!clean.every(Boolean)) throw new Error('a worker did not end in good order');
    },
  };
}

interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Why it could not start. */
  readonly reason: string | undefined;
  readonly livedMs: number;
  /** Whether it has lost nothing: it ended as told, or never served. */
  readonly clean: boolean;
}

type WorkerProcess = ReturnType<typeof startWorker>;

function startWorker(output: DestinationStream, onReport: (report: Report) => void) {
  const startedAt = performance.now();
  const worker: Worker = cluster.fork();
  const closeHanded = rememberHanded(worker.process);
  const written = relayLines(worker.process.stdout as Readable, output);
  let serves = false;
  let reason: string | undefined;
  const waits = Promise.withResolvers<number>();
  const served = Promise.withResolvers<void>();
  worker.on('message', (report: Report) => {
    if (report.type === 'failed') reason = report.reason;
    else if (report.type === 'waiting') waits.resolve(report.port ?? 0);
    else if (report.type !== 'serving') onReport(report);
    else {
      serves = true;
      served.resolve();
    }
  });
  // It has just died, and something was on its way to it.
  worker.on('error', () => {});
  const ended = once(worker.process, 'exit').then(async ([code, signal]): Promise<Ending> => {
    const livedMs = performance.now() - startedAt;
    closeHanded();
    await written;
    const error = new StartError(reason ?? `a worker ended with ${signal ?? code} before it could serve`);
    waits.reject(error);
    served.reject(error);
    return { code, signal, reason, livedMs, clean: code === 0 || !serves };
  });
  // Where nobody waits for it, its end says enough.
  for (const { promise } of [waits, served]) promise.catch(() => {});
  return {
    id: worker.id,
    pid: worker.process.pid,
    waiting: waits.promise,
    serving: served.promise,
    ended,
    serves: () => serves,
    send: (order: Order) => void worker.send(order, () => {}),
    /** One that does not serve yet ends with the channel to its primary. */
    stop(): void {
      if (serves) this.send({ type: 'stop' });
      else if (worker.isConnected()) worker.process.disconnect();
    },
    kill: () => void worker.process.kill('SIGKILL'),
  };
}

/**
 * A connection that is on its way to a worker that dies is forgotten by Node.js, and its client would wait for ever. There
 * is one at a time; where it has arrived, closing it here again does nothing.
 */
function rememberHanded(process: ChildProcess): () => void {
  const send = process.send.bind(process) as (...parameters: unknown[]) => boolean;
  let handed: { close(): void } | undefined;
  process.send = (...parameters: unknown[]) => {
    const [, handle] = parameters as [unknown, typeof handed?];
    if (typeof handle?.close === 'function') handed = handle;
    return send(...parameters);
  };
  return () => handed?.close();
}

/** Passes on whole lines, so that those of several processes do not mix. @returns when there will be no more */
async function relayLines(from: Readable, to: DestinationStream): Promise<void> {
  let rest = '';
  from.setEncoding('utf8');
  from.on('data', (text: string) => {
    const end = text.lastIndexOf('\n') + 1;
    if (end > 0) to.write(rest + text.slice(0, end));
    rest = end > 0 ? text.slice(end) : rest + text;
  });
  await once(from, 'close');
  if (rest) to.write(`${rest}\n`);
}
