import { expect, it, vi } from 'vitest';
import { startAuditSealer } from '../server/audit-sealer.ts';

/** When it seals what, is in test/storage/audit-chain.test.ts; here, what it does where that fails. */

const at = new Date('2026-11-26T12:00:00Z');
const batch = { seq: 1, hash: 'ab', trail: 'audit_events', events: 2 } as const;

function start(auditTrail: Parameters<typeof startAuditSealer>[0]['auditTrail']) {
  const logger = { info: vi.fn(), error: vi.fn() };
  const onSealed = vi.fn<(upTo: Date) => void>();
  return {
    logger,
    onSealed,
    sealer: startAuditSealer({ auditTrail, logger, onSealed, clock: () => at, intervalMs: 5 }),
  };
}

it('tells from the start up to when all is sealed, and goes on where sealing fails', async () => {
  const oldest = new Date('2026-11-26T11:00:00Z');
  const seal = vi.fn(async () => [batch]).mockRejectedValueOnce(new Error('away'));
  const unsealedSince = vi
    .fn<() => Promise<Date | undefined>>(async () => undefined)
    .mockResolvedValueOnce(oldest);
  const { sealer: started, logger, onSealed } = start({ seal, unsealedSince });
  const sealer = await started;
  expect(onSealed.mock.calls).toEqual([[oldest]]);
  expect(logger.error.mock.calls.map(([, message]) => message)).toEqual([
    'the audit trail could not be sealed',
  ]);
  await vi.waitFor(() => expect(onSealed.mock.calls.at(-1)).toEqual([at]));
  expect(logger.info).toHaveBeenCalledWith(batch, 'audit batch sealed');
  await sealer.close();
});

it('tells nothing where it cannot know, and says so', async () => {
  const unsealedSince = vi.fn(async () => {
    throw new Error('away');
  });
  const { sealer: started, logger, onSealed } = start({ seal: async () => [], unsealedSince });
  const sealer = await started;
  await vi.waitFor(() => expect(unsealedSince.mock.calls.length).toBeGreaterThan(2));
  await sealer.close();
  expect(onSealed).not.toHaveBeenCalled();
  expect(new Set(logger.error.mock.calls.map(([, message]) => message))).toEqual(
    new Set(['how much of the audit trail is sealed could not be read']),
  );
});
