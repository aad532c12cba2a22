import pg from 'pg';
import { expect, inject, it } from 'vitest';
import { boundedClient } from '../../server/storage/bounded-client.ts';
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

it('gives up what is not answered in time, with its connection, and nothing else', async () => {
  const failures: unknown[] = [];
  const pool = createLookupPool({
    open: () => new pg.Pool({ connectionString: inject('databaseUrl'), max: 2, Client: boundedClient(500) }),
    maximumWaiting: 10,
    refuse() {},
    onFailure: (error) => void failures.push(error),
  });
  const beside = pool.query('SELECT pg_sleep(0.2)');
  await expect(pool.query('SELECT pg_sleep(1)')).rejects.toThrow('Query read timeout');
  expect((await beside).rowCount).toBe(1);
  expect(pool.totalCount).toBe(1);
  await expect(pool.query('SELECT 1 / 0')).rejects.toMatchObject({ code: '22012' });
  // Longer than the limit since the one that was answered, and past the end of the one that was not.
  for (let n = 0; n < 4; n += 1) {
    const { rows } = await pool.query('SELECT $1::int AS n, pg_sleep(0.3)', [n]);
    expect(rows[0]?.n).toBe(n);
  }
  expect(failures).toHaveLength(2);
  expect(pool.waitingCount).toBe(0);
  await pool.end();
});
