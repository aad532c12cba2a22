import type { KeyRingState } from '../keys/key-ring.ts';
import type { Registry } from './registry.ts';

export type KeyMetrics = ReturnType<typeof createKeyMetrics>;

export function createKeyMetrics(registry: Registry) {
  const prefix = 'platform_tokens_signing_key';
  const age = registry.gauge(
    { name: `${prefix}_age_seconds`, help: 'Since the present key made its first signature, in seconds.' },
    'max',
  )();
  const next = registry.gauge(
    {
      name: `${prefix}_next_activation_seconds`,
      help: 'Until the key that waits signs, in seconds; not there where none waits.',
    },
    'min',
  )();
  const due = registry.gauge(
    {
      name: `${prefix}_rotation_due_seconds`,
      help: 'Until the next key must be published, in seconds; negative where it is overdue, not there where it is published.',
    },
    'min',
  )();
  const published = registry.gauge(
    { name: `${prefix}s_published`, help: 'Keys in the JWKS, in the process with the fewest.' },
    'min',
  )();
  const failures = registry.counter({
    name: `${prefix}_failures_total`,
    help: 'Times that the signing keys could not be read or rotated.',
  })();

  return {
    failed(): void {
      failures.value += 1;
    },
    /** Asks for the state of the keys at every reading. */
    watch(read: () => KeyRingState, clock: () => Date): void {
      registry.onRead(() => {
        const state = read();
        const now = clock().getTime();
        const until = (at: Date | undefined) => (at ? (at.getTime() - now) / 1000 : Number.NaN);
        age.value = -until(state.activatedAt);
        next.value = until(state.nextActivatesAt);
        due.value = until(state.rotationDueAt);
        published.value = state.published;
      });
    },
  };
}
