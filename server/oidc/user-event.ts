import type { Context } from 'koa';
import { v7 as uuidv7 } from 'uuid';
import { redact } from '../domain/redaction.ts';
import { clientAddress } from '../http/client-address.ts';
import type { AuditEvent } from '../storage/audit-events.ts';

/** An event of the audit trail about a user who signs in or out. */
export function userEvent(
  ctx: Context,
  event: Pick<AuditEvent, 'at' | 'action' | 'actor' | 'targetId'>,
): AuditEvent {
  const userAgent = ctx.get('User-Agent');
  return {
    ...event,
    id: uuidv7(),
    organizationId: null,
    tokenId: null,
    ip: clientAddress(ctx),
    userAgent: userAgent ? redact(userAgent) : null,
    requestId: ctx.state.requestId ?? null,
    reason: null,
  };
}
