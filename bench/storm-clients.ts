import { drive, type LoadOptions, type LoadResult } from './load.ts';
import { exchangeRequest } from './requests.ts';

/** Clients that go on with a dead token: a process of its own, so that it takes nothing from who measures. */

export interface StormOrder extends Pick<LoadOptions, 'port' | 'connections' | 'durationMs'> {
  /** Each with the address that it comes from. */
  readonly presented: readonly (readonly [token: string, address: string])[];
}
export type StormReport = Pick<LoadResult, 'rate' | 'statuses'>;

process.once('message', async ({ presented, ...order }: StormOrder) => {
  const requests = presented.map(([token, address]) => exchangeRequest(token, address));
  const { rate, statuses } = await drive({ ...order, requests, rampMs: 0, anyStatus: true });
  process.send?.({ rate, statuses } satisfies StormReport);
  process.disconnect();
});
