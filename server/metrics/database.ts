import type { DatabaseErrorClass, PoolState } from '../storage/database.ts';
import type { Registry } from './registry.ts';

const errorClasses: readonly DatabaseErrorClass[] = [
  'unavailable',
  'timeout',
  'conflict',
  'refused',
  'other',
];

export type DatabaseMetrics = ReturnType<typeof createDatabaseMetrics>;

export function createDatabaseMetrics(registry: Registry) {
  const prefix = 'platform_tokens_database';
  const connections = registry.gauge(
    {
      name: `${prefix}_pool_connections`,
      help: 'Connections to PostgreSQL.',
      labels: ['pool', 'state'],
    },
    'sum',
  );
  const size = registry.gauge(
    { name: `${prefix}_pool_size`, help: 'Connections that a pool may have.', labels: ['pool'] },
    'sum',
  );
  const waiting = registry.gauge(
    { name: `${prefix}_pool_waiting`, help: 'Queries that wait for a connection.', labels: ['pool'] },
    'sum',
  );
  const lookups = registry.counter({
    name: `${prefix}_lookups_total`,
    help: 'Look-ups of platform tokens, each of one or many tokens.',
  })();
  const keys = registry.counter({
    name: `${prefix}_lookup_keys_total`,
    help: 'Platform tokens that were looked up.',
  })();
  const errors = registry.counter({
    name: `${prefix}_errors_total`,
    help: 'Queries that failed; `refused` are rows that PostgreSQL does not take, as of a name that is there already.',
    labels: ['class'],
  });
  for (const name of errorClasses) errors(name);
  const reachable = registry.gauge(
    { name: `${prefix}_reachable`, help: 'Whether the last probe was answered (1) by all processes.' },
    'min',
  )();
  const listening = registry.gauge(
    {
      name: `${prefix}_listener_connected`,
      help: 'Whether notifications of changed signing keys are listened to (1) by all processes.',
    },
    'min',
  )();

  return {
    lookedUp(count: number): void {
      lookups.value += 1;
      keys.value += count;
    },
    failed(kind: DatabaseErrorClass): void {
      errors(kind).value += 1;
    },
    probed(answered: boolean): void {
      reachable.value = Number(answered);
    },
    listening(connected: boolean): void {
      listening.value = Number(connected);
    },
    /** Asks for the state of the pools at every reading. */
    watchPools(read: () => readonly PoolState[]): void {
      registry.onRead(() => {
        for (const pool of read()) {
          connections(pool.name, 'in_use').value = pool.inUse;
          connections(pool.name, 'idle').value = pool.idle;
          size(pool.name).value = pool.size;
          waiting(pool.name).value = pool.waiting;
        }
      });
    },
  };
}
