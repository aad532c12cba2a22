import type { JWTPayload } from 'jose';
import type { LimitName, Limits } from '../../config/policy.ts';
import { Problem } from '../http/problem.ts';
import { problemTypes } from '../http/problem-types.ts';
import { type RefusalReports, refusalFields } from '../http/rate-limit.ts';
import type { SharedCounters } from '../storage/shared-counters.ts';

/** Counts a write of whoever holds these claims. @throws Problem 429 where it is one too many */
export type WriteLimit = (claims: JWTPayload) => void;

export interface WriteLimitDeps {
  readonly limits: Limits;
  readonly sharedCounters: SharedCounters;
  readonly reports: RefusalReports;
}

const type = 'too-many-requests';

export function createWriteLimit({ limits, sharedCounters, reports }: WriteLimitDeps): WriteLimit {
  const limiter = (limit: LimitName) => {
    const counter = sharedCounters.counter(limit, limits[limit]);
    return (key: string) => {
      if (counter.used(key) < limits[limit].points) return void counter.add(key);
      const refusal = reports.report({ limit, wait: counter.wait(key) }, key);
      throw new Problem({
        type,
        status: problemTypes[type].status,
        title: problemTypes[type].title,
        detail: 'Too many writes; try again later.',
        headers: refusalFields(refusal, limits[limit]),
      });
    };
  };
  const byClient = limiter('admin-writes-client');
  const byUser = limiter('admin-writes-user');
  return ({ sub, client_id }) => (sub === client_id ? byClient : byUser)(String(sub));
}
