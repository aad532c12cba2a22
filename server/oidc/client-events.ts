import type { Context } from 'koa';
import type { KoaContextWithOIDC } from 'oidc-provider';
import { networkOf } from '../domain/network.ts';
import { clientAddress } from '../http/client-address.ts';
import { requestEvent } from '../http/request-event.ts';
import type { AuditEvent } from '../storage/audit-events.ts';
import type { CountedEvents } from '../storage/counted-events.ts';

/** What the audit trail has of clients that authenticate: counted, for both can be had often. */
export interface ClientEvents {
  /** Credentials that are wrong, of a client that there is: what else was typed may be a secret, and is kept nowhere. */
  refused(ctx: Context, clientId: string | undefined): void;
  /** An access token that a client has for itself. */
  issued(ctx: Context, clientId: string): void;
}

export interface ClientEventsDeps {
  readonly countedEvents: CountedEvents;
  readonly clock: () => Date;
}

export function createClientEvents({ countedEvents, clock }: ClientEventsDeps): ClientEvents {
  function record(
    ctx: Context,
    clientId: string,
    event: Pick<AuditEvent, 'action' | 'actor'> & Partial<Pick<AuditEvent, 'targetId' | 'reason'>>,
  ): void {
    const at = clock();
    const like = `${event.action} ${clientId} ${networkOf(clientAddress(ctx))}`;
    countedEvents.record(like, at, () => requestEvent(ctx, { at, ...event }));
  }
  return {
    refused(ctx, clientId) {
      if (clientId === undefined) return;
      record(ctx, clientId, {
        action: 'client.refused',
        // Nobody has proved to be anybody.
        actor: { type: 'system', id: 'client-authentication' },
        targetId: clientId,
        reason: 'wrong credentials',
      });
    },
    issued: (ctx, clientId) =>
      record(ctx, clientId, { action: 'client.token_issued', actor: { type: 'client', id: clientId } }),
  };
}

/** The client that the library has found by the request's `client_id`, whether its secret was right or not. */
export const foundClientId = (ctx: Context): string | undefined =>
  (ctx as unknown as KoaContextWithOIDC).oidc?.client?.clientId;
