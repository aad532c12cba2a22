import { readFile } from 'node:fs/promises';
import type { Database } from '../server/storage/database.ts';

/** CPU time of PostgreSQL in ms: by the connections of look-ups, all others of the server, and the rest of its processes. */
interface PostgresCpu {
  readonly lookup: number;
  readonly write: number;
  readonly background: number;
}

export async function postgresCpu({ knex }: Database): Promise<PostgresCpu> {
  const { rows } = await knex.raw(
    `SELECT pid, CASE WHEN backend_type <> 'client backend' THEN 'background' WHEN query LIKE '%WHERE t.digest =%' THEN 'lookup'
       ELSE 'write' END AS kind FROM pg_stat_activity WHERE pid <> pg_backend_pid()`,
  );
  const sums = { lookup: 0, write: 0, background: 0 };
  for (const { pid, kind } of rows as { pid: number; kind: keyof PostgresCpu }[]) {
    // Linux: the first number is the time on a CPU in ns.
    const text = await readFile(`/proc/${pid}/schedstat`, 'utf8').catch(() => '0');
    sums[kind] += Number(text.split(' ')[0]) / 1e6;
  }
  return sums;
}
