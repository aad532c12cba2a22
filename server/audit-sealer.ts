import type { Logger } from 'pino';
import { policy } from '../config/policy.ts';
import type { AuditTrail } from './storage/audit-trail.ts';

export interface AuditSealerDeps {
  readonly auditTrail: Pick<AuditTrail, 'seal' | 'unsealedSince'>;
  readonly logger: Pick<Logger, 'info' | 'error'>;
  /** Told up to when all is sealed, whoever has sealed it. */
  readonly onSealed: (upTo: Date) => void;
  readonly clock: () => Date;
  readonly intervalMs?: number;
}

export interface AuditSealer {
  /** Waits for the batch that is being sealed; what is not sealed yet is at the next start. */
  close(): Promise<void>;
}

/**
 * Seals the events of the trail from time to time, in batches. Each batch leaves a line in the log: a witness that nobody who
 * can write to the database can take back. The first one before anything else is written: after a restore, events have to
 * go on above what is sealed.
 */
export async function startAuditSealer({
  auditTrail,
  logger,
  onSealed,
  clock,
  intervalMs = policy.auditSealIntervalMs,
}: AuditSealerDeps): Promise<AuditSealer> {
  let sealing: Promise<void> | undefined;
  let closed = false;

  /** @returns whether there may be more */
  async function sealOnce(): Promise<boolean> {
    try {
      const batches = await auditTrail.seal();
      for (const { seq, hash, trail, events } of batches) {
        logger.info({ seq, hash, trail, events }, 'audit batch sealed');
      }
      return batches.reduce((sum, { events }) => sum + events, 0) >= policy.auditBatch;
    } catch (err) {
      logger.error({ err }, 'the audit trail could not be sealed');
      return false;
    }
  }

  async function tell(): Promise<void> {
    const at = clock();
    try {
      onSealed((await auditTrail.unsealedSince()) ?? at);
    } catch (err) {
      logger.error({ err }, 'how much of the audit trail is sealed could not be read');
    }
  }

  async function sealAll(): Promise<void> {
    while (!closed && (await sealOnce()));
    await tell();
  }

  await sealOnce();
  await tell();
  const timer = setInterval(() => {
    sealing ??= sealAll().finally(() => {
      sealing = undefined;
    });
  }, intervalMs).unref();
  return {
    async close() {
      closed = true;
      clearInterval(timer);
      await sealing;
    },
  };
}
