import { answerPage, readPageRequest } from './cursor.ts';
import type { AdminDeps } from './deps.ts';
import { type AnyRoute, defineRoute } from './route.ts';
import { auditEventSchema, auditQuerySchema, pageOf, presentAuditEvent } from './schemas.ts';

export function auditEventRoutes({ auditEvents }: AdminDeps): AnyRoute[] {
  return [
    defineRoute({
      method: 'get',
      path: '/audit-events',
      operationId: 'listAuditEvents',
      summary:
        'The audit trail, newest first: all of it, of an organization to its admins, of their own tokens to members',
      access: 'tokens:read',
      query: auditQuerySchema,
      response: pageOf(auditEventSchema, 'A page of events'),
      async handle({ caller, query }) {
        const filter = {
          organizationId: query.organization_id,
          actorId: query.actor_id,
          action: query.action,
          tokenId: query.token_id,
          from: query.from ? new Date(query.from) : undefined,
          to: query.to ? new Date(query.to) : undefined,
        };
        const request = readPageRequest(query, 'audit-events', { value: 'time', id: 'uuid' });
        const page = await auditEvents.list(caller.visibility, filter, request);
        return answerPage(page, 'audit-events', presentAuditEvent);
      },
    }),
  ];
}
