import type { Registry } from './registry.ts';

export type WorkerMetrics = ReturnType<typeof createWorkerMetrics>;

/** Of the process that keeps the workers; without workers, of the one that serves. */
export function createWorkerMetrics(registry: Registry) {
  const gauge = (name: string, help: string) => registry.gauge({ name, help }, 'sum')();
  const wanted = gauge('platform_tokens_workers_wanted', 'Processes that should serve.');
  const running = gauge('platform_tokens_workers', 'Processes that run, to serve.');
  const silent = gauge(
    'platform_tokens_workers_silent',
    'Processes that did not tell their numbers in time: their last ones were taken.',
  );
  const started = registry.counter({
    name: 'platform_tokens_workers_started_total',
    help: 'Processes that were started to serve: at the start, and in place of others that ended.',
  })();
  // What the parts of this process do not set, they leave out: the sum is the primary's.
  return {
    started(): void {
      started.value += 1;
    },
    present(counts: { readonly wanted: number; readonly running: number; readonly silent: number }): void {
      wanted.value = counts.wanted;
      running.value = counts.running;
      silent.value = counts.silent;
    },
  };
}
