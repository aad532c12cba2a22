import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { policy } from '../../config/policy.ts';
import { type AuditEvent, createAuditEvents } from '../../server/storage/audit-events.ts';
import { createCountedEvents } from '../../server/storage/counted-events.ts';
import type { Database } from '../../server/storage/database.ts';
import { createTestDatabase } from '../support/harness.ts';

const event = (more: Partial<AuditEvent> = {}) => ({
  id: uuidv7(),
  action: 'token.refused',
  actor: { type: 'token', id: 't' } as const,
  organizationId: null,
  tokenId: null,
  targetId: null,
  ip: '192.0.2.1',
  userAgent: null,
  requestId: null,
  reason: 'revoked',
  ...more,
});
const at = (ms: number) => new Date(ms);

function recorder({ failures = [] as unknown[], minuteMs = 60_000 } = {}) {
  const written: AuditEvent[][] = [];
  const errors: unknown[][] = [];
  const counted = createCountedEvents({
    auditEvents: {
      async insert(events) {
        if (failures.length > 0) throw failures.shift();
        written.push([...events]);
      },
    },
    onError: (...args) => errors.push(args),
    minuteMs,
  });
  return { counted, written, errors };
}

it('has one event for all that are alike, with their number, the first one’s details and the last one’s time', async () => {
  const { counted, written } = recorder();
  for (let n = 0; n < 5; n += 1) counted.record('a', at(n), () => event({ requestId: `r${n}` }));
  counted.record('b', at(7), () => event({ reason: 'expired' }));
  await counted.close();
  expect(written).toMatchObject([
    [
      { at: at(4), count: 5, requestId: 'r0', reason: 'revoked' },
      { at: at(7), count: 1, reason: 'expired' },
    ],
  ]);
});

it('writes when the minute is over, and begins anew', async () => {
  const { counted, written } = recorder({ minuteMs: 30 });
  counted.record('a', at(1), () => event());
  await expect.poll(() => written.length).toBe(1);
  counted.record('a', at(2), () => event());
  await expect.poll(() => written.length).toBe(2);
  await counted.close();
  expect(written.map(([one]) => one?.count)).toEqual([1, 1]);
});

it('counts together what is too much, exactly, and names nobody for it', async () => {
  const { counted, written } = recorder();
  const total = policy.countedEvents + 30;
  for (let n = 0; n < total; n += 1) counted.record(`token ${n}`, at(n), () => event({ tokenId: uuidv7() }));
  counted.record('token 0', at(total), () => event());
  counted.record('address', at(total), () => event({ action: 'user.sign_in_refused' }));
  await counted.close();
  const [events = []] = written;
  expect(events).toHaveLength(policy.countedEvents + 2);
  expect(events.reduce((sum, { count = 0 }) => sum + count, 0)).toBe(total + 2);
  expect(events.slice(-2)).toMatchObject([
    { action: 'token.refused', count: 30, tokenId: null, ip: null, reason: null, actor: { id: 'others' } },
    { action: 'user.sign_in_refused', count: 1 },
  ]);
});

it('tries again while the database is away', async () => {
  const away = new Error('away');
  const { counted, written, errors } = recorder({ failures: [away], minuteMs: 20 });
  counted.record('a', at(1), () => event());
  await expect.poll(() => errors).toEqual([[away, 1, 0]]);
  counted.record('b', at(2), () => event());
  await counted.close();
  expect(written.flat().map((one) => one.at)).toEqual([at(1), at(2)]);
});

describe('with PostgreSQL', () => {
  let database: Database;
  let drop: () => Promise<void>;
  beforeAll(async () => {
    ({ database, drop } = await createTestDatabase());
  });
  afterAll(() => drop());
  const countsOf = (reason: string) =>
    database.knex('audit_events').where({ reason }).orderBy('at').pluck('count');

  it('writes once what was written while its answer was lost, and what has come since', async () => {
    const auditEvents = createAuditEvents(database.knex);
    const errors: unknown[] = [];
    const counted = createCountedEvents({
      auditEvents: {
        async insert(events) {
          await auditEvents.insert(events);
          // As if the connection broke after the commit.
          if (errors.length === 0) throw new Error('Connection terminated');
        },
      },
      onError: (error) => errors.push(error),
      minuteMs: 20,
    });
    const now = Date.now();
    const lost = (id: string) => () => event({ id, reason: 'lost' });
    for (let n = 0; n < 3; n += 1) counted.record('a', at(now), lost(uuidv7()));
    await expect.poll(() => errors).toHaveLength(1);
    for (let n = 0; n < 2; n += 1) counted.record('a', at(now + 1), lost(uuidv7()));
    await counted.close();
    expect([await countsOf('lost'), errors.length]).toEqual([[3, 2], 1]);
  });

  it('drops an event that PostgreSQL refuses, and writes the others', async () => {
    const errors: unknown[][] = [];
    const counted = createCountedEvents({
      auditEvents: createAuditEvents(database.knex),
      onError: (...args) => errors.push(args),
    });
    const now = at(Date.now());
    for (const ip of ['192.0.2.1', 'fe80::1%eth0', '192.0.2.2'])
      counted.record(ip, now, () => event({ ip, reason: 'refused' }));
    await counted.close();
    expect([await countsOf('refused'), errors]).toEqual([
      [1, 1],
      [[expect.objectContaining({ code: '22P02' }), 0, 1]],
    ]);
  });
});
