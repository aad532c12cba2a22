import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { policy } from '../../config/policy.ts';
import { createLogger } from '../../server/http/logger.ts';
import { createUsageRecorder, type UsageEvent } from '../../server/storage/usage.ts';
import { createHarness, type Harness } from '../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(async () => {
  await harness.close();
});

const event = (tokenId: string, more: Partial<UsageEvent> = {}): UsageEvent => ({
  at: new Date(),
  organizationId: uuidv7(),
  tokenId,
  serviceId: 'tms',
  ip: '192.0.2.1',
  userAgent: null,
  requestId: null,
  ...more,
});
const rowsOf = (tokenId: string): Promise<{ at: Date; count: number; ip: string; user_agent: string }[]> =>
  harness.database.knex('exchange_events').where({ token_id: tokenId }).orderBy('at').orderBy('id');
const countsOf = async (tokenId: string) =>
  (await rowsOf(tokenId)).map(({ count }) => count).sort((a, b) => a - b);
const exchangesOf = async (tokenId: string) =>
  (await countsOf(tokenId)).reduce((sum, count) => sum + count, 0);
const lastUse = async (id: string) => {
  const token = await harness.stores.platformTokens.find(id, { all: true });
  return [token?.lastUsedAt?.getTime(), token?.lastUsedIp];
};

function recorder({ failures = 0, minuteMs = 60_000 } = {}) {
  const batches: number[] = [];
  const errors: [unknown, number, number][] = [];
  const database = { failures };
  const { exchangeEvents } = harness.stores;
  const usage = createUsageRecorder({
    exchangeEvents: {
      async insert(events) {
        if (database.failures-- > 0) throw new Error('the database is away');
        batches.push(events.length);
        await exchangeEvents.insert(events);
      },
    },
    onError: (...args) => errors.push(args),
    minuteMs,
  });
  return { usage, batches, errors, database };
}

describe('the usage recorder', () => {
  it('writes what comes together in one batch, and the latest use of each token', async () => {
    const { usage, batches, errors } = recorder();
    const { id } = await harness.build.platformToken();
    const other = await harness.build.platformToken();
    const latest = new Date(Date.now() + 5000);
    for (let n = 0; n < 8; n += 1) usage.record(event(n % 2 ? id : other.id));
    usage.record(event(id, { at: latest, ip: '2001:db8::1' }));
    expect(batches).toEqual([]);
    await expect.poll(() => batches, { timeout: 5000 }).toEqual([9]);
    await usage.close();
    expect([await countsOf(id), errors]).toEqual([[1, 1, 1, 1, 1], []]);
    expect(await lastUse(id)).toEqual([latest.getTime(), '2001:db8::1']);
  });

  it('writes few of a token in a minute singly, then one of each source, and its rest as one when the minute is over', async () => {
    const { usage, batches } = recorder({ minuteMs: 5_000 });
    const { id } = await harness.build.platformToken();
    const start = Date.now();
    const at = (n: number) => new Date(start + n);
    for (let n = 0; n < 100; n += 1) usage.record(event(id, { at: at(n) }));
    for (let n = 0; n < 7; n += 1) usage.record(event(id, { at: at(200 + n), ip: '192.0.2.2' }));
    usage.record(event(id, { at: at(300), userAgent: 'other' }));
    await expect.poll(() => batches).toEqual([7]);
    // A batch is known here before it is committed.
    await expect.poll(() => lastUse(id)).toEqual([start + 300, '192.0.2.1']);
    await expect.poll(() => batches).toEqual([7, 2]);
    await expect.poll(() => rowsOf(id)).toHaveLength(9);
    const rows = await rowsOf(id);
    expect(
      rows.filter(({ count }) => count > 1).map(({ at, count, ip }) => [at.getTime(), count, ip]),
    ).toEqual([
      [start + 99, 95, '192.0.2.1'],
      [start + 206, 6, '192.0.2.2'],
    ]);
    expect(await exchangesOf(id)).toBe(108);
    expect(await lastUse(id)).toEqual([start + 300, '192.0.2.1']);
    // Another minute.
    for (let n = 0; n < 6; n += 1) usage.record(event(id, { at: at(400 + n) }));
    await expect.poll(() => batches).toEqual([7, 2, 5]);
    await usage.close();
    expect([batches, await exchangesOf(id)]).toEqual([[7, 2, 5, 1], 114]);
    expect(await lastUse(id)).toEqual([start + 405, '192.0.2.1']);
  });

  it('has an event for each exchange of the sources that are too many, and counts exactly', async () => {
    const { usage, errors } = recorder();
    const { id } = await harness.build.platformToken();
    const busy = (more: Partial<UsageEvent> = {}) => {
      for (let n = 0; n < 7; n += 1) usage.record(event(id, more));
    };
    busy();
    for (let n = 0; n < policy.exchangeSources - 1; n += 1)
      usage.record(event(id, { ip: null, userAgent: `agent ${n}` }));
    busy();
    busy({ userAgent: 'one too many' });
    await usage.close();
    expect([await exchangesOf(id), errors]).toEqual([20 + policy.exchangeSources, []]);
    expect((await countsOf(id)).filter((count) => count > 1)).toEqual([9]);
  }, 60_000);

  it('counts exactly the exchanges of tokens whose ids end alike', async () => {
    const { usage } = recorder();
    const tokens = Array.from({ length: 3 }, () => `${uuidv7().slice(0, -6)}abcdef`);
    for (let n = 0; n < 30; n += 1) usage.record(event(String(tokens[n % 3])));
    await usage.close();
    for (const id of tokens) expect(await exchangesOf(id)).toBe(10);
    expect(await countsOf(String(tokens[0]))).toEqual([1, 1, 1, 7]);
  });

  it('counts exactly with many tokens at once, a database that comes and goes, and minutes that end meanwhile', async () => {
    const { usage, database } = recorder({ minuteMs: 700 });
    const tokens = await Promise.all(Array.from({ length: 5 }, () => harness.build.platformToken()));
    const sent = new Map<string, number>();
    for (let round = 0; round < 60; round += 1) {
      if (round % 7 === 0) database.failures = 1;
      for (const [index, { id }] of tokens.entries()) {
        for (let n = 0; n < (round * 7 + index) % 11; n += 1) {
          usage.record(event(id, { ip: `192.0.2.${n % 3}` }));
          sent.set(id, (sent.get(id) ?? 0) + 1);
        }
      }
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
    database.failures = 0;
    await usage.close();
    for (const { id } of tokens) expect(await exchangesOf(id)).toBe(sent.get(id));
  });

  it('writes once what was written while its answer was lost', async () => {
    const { exchangeEvents } = harness.stores;
    let lost = true;
    const errors: unknown[] = [];
    const usage = createUsageRecorder({
      exchangeEvents: {
        async insert(events) {
          // As if the connection broke after the commit.
          await exchangeEvents.insert(events);
          if (lost) throw new Error('Connection terminated');
        },
      },
      onError: (error) => errors.push(error),
    });
    const { id } = await harness.build.platformToken();
    for (let n = 0; n < 9; n += 1) usage.record(event(id));
    await expect.poll(() => errors.length).toBeGreaterThanOrEqual(1);
    lost = false;
    await usage.close();
    expect(await countsOf(id)).toEqual([1, 1, 1, 1, 1, 4]);
  });

  it('is closed while it writes, and writes the rest', async () => {
    const { usage } = recorder();
    const { id } = await harness.build.platformToken();
    for (let n = 0; n < policy.usageBatchSize; n += 1) usage.record(event(id, { userAgent: `agent ${n}` }));
    for (let n = 0; n < 100; n += 1) usage.record(event(id));
    await usage.close();
    expect(await exchangesOf(id)).toBe(policy.usageBatchSize + 100);
  });

  it('drops an event that PostgreSQL refuses, and writes all others of its batch', async () => {
    const { usage, errors } = recorder();
    const { id } = await harness.build.platformToken();
    usage.record(event(id));
    usage.record(event(id, { ip: 'fe80::1%eth0' }));
    usage.record(event(id));
    await usage.close();
    expect(await exchangesOf(id)).toBe(2);
    expect(errors).toEqual([[expect.objectContaining({ code: '22P02' }), 0, 1]]);
  });

  it('says how many exchanges it has dropped', async () => {
    const { usage, errors } = recorder();
    const { id } = await harness.build.platformToken();
    for (let n = 0; n < 12; n += 1) usage.record(event(id, { ip: 'fe80::1%eth0' }));
    await usage.close();
    expect(await countsOf(id)).toEqual([]);
    expect(errors.at(-1)).toEqual([expect.objectContaining({ code: '22P02' }), 0, 12]);
  });

  it('keeps a bounded number while the database is away, the newest', async () => {
    const { usage, errors, database } = recorder({ failures: Number.POSITIVE_INFINITY });
    const { id } = await harness.build.platformToken();
    const total = policy.usageBufferLimit + 20;
    for (let n = 0; n < total; n += 1)
      usage.record(event(id, { ip: null, userAgent: `agent ${n}`, at: new Date(1e12 + n) }));
    await expect.poll(() => errors.at(-1)?.slice(1)).toEqual([policy.usageBufferLimit, 20]);
    database.failures = 0;
    await usage.close();
    expect(await exchangesOf(id)).toBe(policy.usageBufferLimit);
    expect((await rowsOf(id))[0]?.user_agent).toBe('agent 20');
  }, 60_000);

  it('says what PostgreSQL refused, never the statement', async () => {
    const { usage, errors } = recorder();
    const { id } = await harness.build.platformToken();
    usage.record(event(id, { ip: 'fe80::1%eth0' }));
    await usage.close();
    const lines: string[] = [];
    const logger = createLogger('error', { write: (line: string) => void lines.push(line) });
    logger.error({ err: errors[0]?.[0] }, 'not recorded');
    expect(JSON.parse(String(lines[0])).err.message).toMatch(/^invalid input syntax for type inet/);
    expect(lines[0]).not.toMatch(/insert into|recordset/i);
  });

  it('never sets the last use back', async () => {
    const { id } = await harness.build.platformToken();
    const at = new Date();
    for (const when of [at, new Date(at.getTime() - 60_000)]) {
      const { usage } = recorder();
      usage.record(event(id, { at: when }));
      await usage.close();
    }
    expect([await lastUse(id), await exchangesOf(id)]).toEqual([[at.getTime(), '192.0.2.1'], 2]);
  });

  it('survives writes that fail, and writes everything once, later', async () => {
    const { usage, batches, errors } = recorder({ failures: 2 });
    const { id } = await harness.build.platformToken();
    usage.record(event(id));
    await expect.poll(() => errors.length, { timeout: 5000 }).toBe(1);
    usage.record(event(id));
    await expect.poll(() => batches, { timeout: 5000 }).toEqual([2]);
    expect([await exchangesOf(id), errors]).toEqual([
      2,
      [
        [expect.any(Error), 1, 0],
        [expect.any(Error), 2, 0],
      ],
    ]);
    await usage.close();
    expect(await exchangesOf(id)).toBe(2);
  });
});
