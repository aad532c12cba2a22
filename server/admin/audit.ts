import { v7 as uuidv7 } from 'uuid';
import { redact } from '../domain/redaction.ts';
import { clientAddress } from '../http/client-address.ts';
import type { AuditEvent } from '../storage/audit-events.ts';
import type { Request } from './route.ts';

type Subject = Partial<Pick<AuditEvent, 'organizationId' | 'tokenId' | 'targetId' | 'reason'>>;

/** An event of the audit trail: who did it, from where, in which request. */
export function auditEvent(
  { caller, ctx }: Pick<Request<unknown, unknown, unknown>, 'caller' | 'ctx'>,
  action: string,
  at: Date,
  subject: Subject,
): AuditEvent {
  const userAgent = ctx.get('User-Agent');
  return {
    id: uuidv7(),
    at,
    action,
    actor: { type: caller.type, id: caller.id },
    organizationId: subject.organizationId ?? null,
    tokenId: subject.tokenId ?? null,
    targetId: subject.targetId ?? null,
    ip: clientAddress(ctx),
    userAgent: userAgent ? redact(userAgent) : null,
    requestId: ctx.state.requestId ?? null,
    reason: subject.reason ?? null,
  };
}

/** `x.deactivated`, `x.activated` or `x.updated`, by what changed. */
export function changeAction(
  noun: string,
  before: { status: string },
  change: { status?: string | undefined },
): string {
  if (change.status === undefined || change.status === before.status) return `${noun}.updated`;
  return change.status === 'active' ? `${noun}.activated` : `${noun}.deactivated`;
}
