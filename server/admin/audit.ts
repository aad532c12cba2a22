import { requestEvent } from '../http/request-event.ts';
import type { AuditEvent } from '../storage/audit-events.ts';
import type { Request } from './route.ts';

type Subject = Partial<Pick<AuditEvent, 'organizationId' | 'tokenId' | 'targetId' | 'reason'>>;

/** An event of the audit trail about what a caller of the admin API did. */
export function auditEvent(
  { caller, ctx }: Pick<Request<unknown, unknown, unknown>, 'caller' | 'ctx'>,
  action: string,
  at: Date,
  subject: Subject,
): AuditEvent {
  return requestEvent(ctx, { ...subject, at, action, actor: { type: caller.type, id: caller.id } });
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
