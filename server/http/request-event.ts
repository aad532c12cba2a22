import type { Context } from 'koa';
import { v7 as uuidv7 } from 'uuid';
import { maskTokens, redact } from '../domain/redaction.ts';
import type { AuditEvent } from '../storage/audit-events.ts';
import { clientAddress } from './client-address.ts';

type Subject = Partial<Pick<AuditEvent, 'organizationId' | 'tokenId' | 'targetId' | 'reason'>>;

/** An event of the audit trail about what a request did: who, from where, in which request. */
export function requestEvent(
  ctx: Context,
  { at, action, actor, ...subject }: Pick<AuditEvent, 'at' | 'action' | 'actor'> & Subject,
): AuditEvent {
  const userAgent = ctx.get('User-Agent');
  return {
    id: uuidv7(),
    at,
    action,
    actor,
    organizationId: subject.organizationId ?? null,
    tokenId: subject.tokenId ?? null,
    targetId: subject.targetId ?? null,
    ip: clientAddress(ctx),
    userAgent: userAgent ? redact(userAgent) : null,
    requestId: ctx.state.requestId ?? null,
    reason: subject.reason ? maskTokens(subject.reason) : null,
  };
}
