import pg from 'pg';
import { expect, inject, it } from 'vitest';
import { createLookupPool } from '../../server/storage/lookup-pool.ts';

it('answers those that wait for a connection while the pool is made anew', async () => {
  const pool = createLookupPool({
    open: () =>
      new pg.Pool({ connectionString: inject('databaseUrl'), max: 1, connectionTimeoutMillis: 3_000 }),
    maximumWaiting: 10,
    refuse() {},
    onFailure() {},
  });
  const asked = [pool.query('SELECT pg_sleep(0.3)'), pool.query('SELECT 1'), pool.query('SELECT 2')];
  expect(pool.waitingCount).toBe(2);
  pool.renew();
  expect(pool.waitingCount).toBe(0);
  expect((await Promise.all([...asked, pool.query('SELECT 3')])).map(({ rowCount }) => rowCount)).toEqual([
    1, 1, 1, 1,
  ]);
  await pool.end();
});
