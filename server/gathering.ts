import type { Worker } from 'node:cluster';
import { policy } from '../config/policy.ts';
import { Problem } from './http/problem.ts';
import { combineFamilies, remainsOf } from './metrics/combine.ts';
import type { Family } from './metrics/registry.ts';
import type { Order, Report } from './worker-messages.ts';

/** The numbers of all workers as those of one server: the primary gathers them, whichever worker is asked for them. */
export interface Gathering {
  gather(): Promise<Family[]>;
  /** A worker has told its numbers. */
  told(id: number, families: readonly Family[]): void;
  /** A worker has ended. What it had counted stays counted. */
  ended(id: number): void;
}

export interface GatheringDeps {
  /** The primary's own. */
  readonly own: (silent: number) => readonly Family[];
  readonly running: () => readonly { readonly id: number; send(order: Order): void }[];
  readonly timeoutMs?: number;
}

export function createGathering({
  own,
  running,
  timeoutMs = policy.workerReportTimeoutMs,
}: GatheringDeps): Gathering {
  const last = new Map<number, readonly Family[]>();
  /** Those that owe an answer: one that hangs is not asked again and again. */
  const asked = new Set<number>();
  let departed: readonly Family[] = [];
  let present: Promise<Family[]> | undefined;
  let settle = () => {};

  async function gather(): Promise<Family[]> {
    const answered = new Promise<void>((resolve) => {
      settle = () => {
        if (asked.size === 0) resolve();
      };
    });
    for (const worker of running()) {
      if (asked.has(worker.id)) continue;
      asked.add(worker.id);
      worker.send({ type: 'measure' });
    }
    settle();
    const patience = Promise.withResolvers<void>();
    const timer = setTimeout(patience.resolve, timeoutMs);
    await Promise.race([answered, patience.promise]);
    clearTimeout(timer);
    // Of one that is silent what it told before: a counter must not fall.
    return combineFamilies([own(asked.size), departed, ...last.values()]);
  }

  return {
    gather() {
      present ??= gather().finally(() => {
        present = undefined;
      });
      return present;
    },
    told(id, families) {
      last.set(id, families);
      asked.delete(id);
      settle();
    },
    ended(id) {
      departed = combineFamilies([departed, remainsOf(last.get(id) ?? [])]);
      last.delete(id);
      asked.delete(id);
      settle();
    },
  };
}

/** A worker's side: tells its own numbers, and asks its primary for those of all. */
export function joinGathering(worker: Worker, read: () => Family[]): () => Promise<readonly Family[]> {
  let asking: PromiseWithResolvers<readonly Family[]> | undefined;
  const tell = (report: Report) => void worker.send(report, () => {});
  worker.on('message', (order: Order) => {
    if (order.type === 'measure') tell({ type: 'measured', families: read() });
    if (order.type === 'gathered') {
      asking?.resolve(order.families);
      asking = undefined;
    }
  });
  return () => {
    if (asking) return asking.promise;
    const question = Promise.withResolvers<readonly Family[]>();
    asking = question;
    const timer = setTimeout(() => {
      if (asking === question) asking = undefined;
      question.reject(unavailable());
    }, 3 * policy.workerReportTimeoutMs);
    tell({ type: 'gather' });
    return question.promise.finally(() => clearTimeout(timer));
  };
}

const unavailable = () =>
  new Problem({
    status: 503,
    title: 'Service Unavailable',
    detail: 'The primary process does not tell the numbers.',
    headers: { 'Retry-After': String(policy.retryAfter) },
  });
