import type { Knex } from 'knex';
import { policy } from '../../config/policy.ts';
import type { Executor } from './database.ts';

export type LeakReports = ReturnType<typeof createLeakReports>;

export function createLeakReports(knex: Knex) {
  return {
    /**
     * Keeps a report's digest. Where the transaction fails, the report may come again; of the same report at once, the
     * second waits for the first.
     * @returns false where it has been acted on before
     */
    async record(digest: Buffer, receivedAt: Date, executor: Executor = knex): Promise<boolean> {
      const rows = await executor('leak_reports')
        .insert({ digest, received_at: receivedAt })
        .onConflict('digest')
        .ignore()
        .returning('received_at');
      return rows.length > 0;
    },

    async deleteExpired(now: Date): Promise<number> {
      const before = new Date(now.getTime() - policy.leakReportMemory * 1000);
      return knex('leak_reports').where('received_at', '<', before).delete();
    },
  };
}
