import type { Logger } from 'pino';
import { policy } from '../config/policy.ts';
import type { UpkeepMetrics } from './metrics/upkeep.ts';
import type { Stores } from './storage/stores.ts';

export interface UpkeepDeps {
  readonly stores: Stores;
  readonly logger: Logger;
  readonly metrics: UpkeepMetrics;
  readonly clock: () => Date;
}

export interface Upkeep {
  close(): void;
}

/** What an instance does from time to time, in one of its processes: sweeps what is past its time, and counts tokens. */
export function keepUp({ stores, logger, metrics, clock }: UpkeepDeps): Upkeep {
  const swept = {
    artifacts: stores.artifacts,
    audit_trail: stores.auditTrail,
    leak_reports: stores.leakReports,
    rate_limits: stores.rateLimits,
    platform_tokens: stores.retention,
    signing_keys: stores.signingKeys,
  };

  async function sweep(part: keyof typeof swept): Promise<void> {
    try {
      await swept[part].deleteExpired(clock());
      metrics.swept(part, clock());
    } catch (err) {
      metrics.sweepFailed(part);
      logger.error({ err, part }, 'sweep failed');
    }
  }

  async function count(): Promise<void> {
    const at = clock();
    try {
      metrics.tokensCounted(await stores.platformTokens.countByStatus(at), at);
    } catch (err) {
      logger.warn({ err }, 'the platform tokens could not be counted');
    }
  }

  const parts = Object.keys(swept) as (keyof typeof swept)[];
  for (const part of parts) metrics.sweeping(part, clock());
  const sweeping = setInterval(() => void parts.map(sweep), policy.sweepIntervalMs).unref();
  const counting = setInterval(() => void count(), policy.tokenCountIntervalMs).unref();
  void count();
  return {
    close() {
      clearInterval(sweeping);
      clearInterval(counting);
    },
  };
}
