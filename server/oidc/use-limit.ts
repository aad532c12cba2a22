import type { Context } from 'koa';
import type { Limits } from '../../config/policy.ts';
import { createUseCounts } from '../domain/use-counts.ts';
import type { RefusalReports } from '../http/rate-limit.ts';
import { tooManyRequests } from './oauth-error.ts';

/** Counts an exchange of a good token, before anything is signed. @throws OAuthError 429 where it is one too many */
export type CountUse = (ctx: Context, tokenId: string) => void;

export interface UseLimitDeps {
  readonly limits: Limits;
  readonly reports: RefusalReports;
  /** Monotonic, in ms. */
  readonly now: () => number;
}

export function createUseLimit({ limits, reports, now }: UseLimitDeps): CountUse {
  const limit = 'exchanges';
  const uses = createUseCounts(limits[limit]);
  return ({ state: { presented } }, tokenId) => {
    const wait = presented && uses.count(presented, tokenId, now());
    if (wait !== undefined) throw tooManyRequests(reports.report({ limit, wait }, tokenId), limits);
  };
}
