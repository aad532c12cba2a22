import type { Context } from 'koa';
import { tokenExchangeGrant } from './metadata.ts';

declare module 'koa' {
  interface DefaultState {
    /** Of a token request, as it was sent. */
    grantType?: string;
    /** Why the exchange was refused, where the answer says less. */
    refusal?: string;
    /** The service of the platform token that was presented. */
    serviceId?: string;
  }
}

export interface TokenOutcome {
  readonly grantType: string;
  readonly exchange: boolean;
  readonly issued: boolean;
  /** `granted`, the error, or why an exchange was refused. */
  readonly outcome: string;
  /** Empty where it is unknown. */
  readonly serviceId: string;
}

/**
 * What became of a token request, for those who count; undefined where none was read.
 * @param status as the client saw it, 499 where it went away
 */
export function tokenOutcome({ state, body }: Context, status: number): TokenOutcome | undefined {
  const { grantType, refusal, serviceId = '' } = state;
  if (grantType === undefined) return undefined;
  const exchange = grantType === tokenExchangeGrant;
  return { grantType, exchange, issued: status === 200, outcome: refusal ?? named(status, body), serviceId };
}

function named(status: number, body: unknown): string {
  if (status === 200) return 'granted';
  if (status === 499) return 'aborted';
  if (status === 429) return 'limited';
  if (status === 503) return 'unavailable';
  const { error } = (body ?? {}) as { error?: unknown };
  return typeof error === 'string' ? error : 'error';
}
