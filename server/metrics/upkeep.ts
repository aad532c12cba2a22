import { durationBounds } from './http.ts';
import { observe, type Registry } from './registry.ts';

/** What goes on behind the requests: sweeps, counts, status lists, the audit trail. */
export type UpkeepMetrics = ReturnType<typeof createUpkeepMetrics>;

export function createUpkeepMetrics(registry: Registry) {
  const sweeps = registry.counter({
    name: 'platform_tokens_sweeps_total',
    help: 'Sweeps of a table.',
    labels: ['part', 'outcome'],
  });
  const swept = registry.gauge(
    {
      name: 'platform_tokens_sweep_last_success_timestamp_seconds',
      help: 'The last sweep of a table that went through (or the start), in seconds since 1970.',
      labels: ['part'],
    },
    'max',
  );
  const tokens = registry.gauge(
    {
      name: 'platform_tokens_tokens',
      help: 'Platform tokens by status: up to 10,000 counted, above that estimated by PostgreSQL.',
      labels: ['status'],
    },
    'max',
  );
  const counted = registry.gauge(
    {
      name: 'platform_tokens_tokens_counted_timestamp_seconds',
      help: 'When platform tokens were last counted, in seconds since 1970.',
    },
    'max',
  )();
  const waiting = registry.gauge(
    {
      name: 'platform_tokens_audit_events_waiting',
      help: 'Exchanges, and other events of which many are one row, that are not yet recorded.',
      labels: ['kind'],
    },
    'sum',
  );
  const dropped = registry.counter({
    name: 'platform_tokens_audit_events_dropped_total',
    help: 'Exchanges, and other events of which many are one row, that will never be recorded.',
    labels: ['kind'],
  });
  const sealed = registry.gauge(
    {
      name: 'platform_tokens_audit_sealed_timestamp_seconds',
      help: 'The audit trail is sealed up to this time, in seconds since 1970.',
    },
    'max',
  )();
  const builds = registry.histogram(
    {
      name: 'platform_tokens_status_list_build_seconds',
      help: 'Reading and signing a status list, in seconds.',
    },
    durationBounds,
  )();
  const failures = registry.counter({
    name: 'platform_tokens_status_list_failures_total',
    help: 'Status lists that could not be read or signed.',
  })();
  const bytes = registry.gauge(
    { name: 'platform_tokens_status_list_bytes', help: 'The longest signed status list, in bytes.' },
    'max',
  )();
  const servedAge = registry.gauge(
    {
      name: 'platform_tokens_status_list_served_age_seconds',
      help: 'How old the state was that the last status list to be served told, in seconds.',
    },
    'max',
  )();
  const stale = registry.counter({
    name: 'platform_tokens_status_lists_served_stale_total',
    help: 'Status lists that were served although they should have been read anew.',
  })();

  return {
    sweeping(part: string, at: Date): void {
      swept(part).value = at.getTime() / 1000;
      for (const outcome of ['done', 'failed']) sweeps(part, outcome);
    },
    swept(part: string, at: Date): void {
      sweeps(part, 'done').value += 1;
      swept(part).value = at.getTime() / 1000;
    },
    sweepFailed(part: string): void {
      sweeps(part, 'failed').value += 1;
    },
    tokensCounted(counts: Readonly<Record<string, number>>, at: Date): void {
      for (const [status, count] of Object.entries(counts)) tokens(status).value = count;
      counted.value = at.getTime() / 1000;
    },
    /** Asks the recorder at every reading. */
    watchRecorder(
      kind: 'exchanges' | 'counted_events',
      read: () => { readonly waiting: number; readonly dropped: number },
    ): void {
      registry.onRead(() => {
        const state = read();
        waiting(kind).value = state.waiting;
        dropped(kind).value = state.dropped;
      });
    },
    sealed(upTo: Date): void {
      sealed.value = upTo.getTime() / 1000;
    },
    statusLists: {
      built(seconds: number, length: number): void {
        observe(builds, seconds);
        bytes.value = Math.max(length, Number.isNaN(bytes.value) ? 0 : bytes.value);
      },
      failed(): void {
        failures.value += 1;
      },
      served(ageSeconds: number, isStale: boolean): void {
        servedAge.value = ageSeconds;
        if (isStale) stale.value += 1;
      },
    },
  };
}
