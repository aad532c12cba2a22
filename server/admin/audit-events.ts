import type { Context } from 'koa';
import { Problem } from '../http/problem.ts';
import type { ListedEvent } from '../storage/audit-events.ts';
import { answerPage, readPageRequest } from './cursor.ts';
import type { AdminDeps } from './deps.ts';
import { type AnyRoute, defineRoute, jsonLines } from './route.ts';
import { auditEventSchema, auditQuerySchema, pageOf, presentAuditEvent } from './schemas.ts';

export function auditEventRoutes({ auditEvents }: AdminDeps): AnyRoute[] {
  return [
    defineRoute({
      method: 'get',
      path: '/audit-events',
      operationId: 'listAuditEvents',
      summary:
        'The audit trail, newest first: all of it, of an organization to its admins, of their own tokens to members. ' +
        `With \`Accept: ${jsonLines}\` every event that matches, one a line, and no pages`,
      access: 'tokens:read',
      query: auditQuerySchema,
      response: {
        ...pageOf(auditEventSchema, 'A page of events, or all of them as JSON Lines'),
        line: auditEventSchema,
      },
      async handle({ caller, query, ctx }) {
        const filter = {
          organizationId: query.organization_id,
          actorId: query.actor_id,
          action: query.action,
          tokenId: query.token_id,
          from: query.from ? new Date(query.from) : undefined,
          to: query.to ? new Date(query.to) : undefined,
        };
        ctx.vary('Accept');
        if (ctx.accepts('application/json', jsonLines) === jsonLines) {
          refusePages(ctx);
          const pages = auditEvents.readAll(caller.visibility, filter);
          // What fails now has an answer of its own; later the connection breaks, and the last line with it.
          const { value: first } = await pages.next();
          return { lines: linesOf(first ?? [], pages) };
        }
        const request = readPageRequest(query, 'audit-events', { value: 'time', id: 'uuid' });
        const page = await auditEvents.list(caller.visibility, filter, request);
        return answerPage(page, 'audit-events', presentAuditEvent);
      },
    }),
  ];
}

/** An export that stopped at a limit would look like one that is complete. */
function refusePages({ query }: Context): void {
  const errors = ['limit', 'cursor']
    .filter((name) => query[name] !== undefined)
    .map((name) => ({ pointer: `/${name}`, detail: 'is for pages: an export has none' }));
  if (errors.length === 0) return;
  throw new Problem({ status: 400, title: 'Bad Request', detail: 'The query is not valid.', errors });
}

async function* linesOf(first: ListedEvent[], rest: AsyncIterable<ListedEvent[]>): AsyncGenerator<string> {
  const lines = (events: ListedEvent[]) =>
    events.map((event) => `${JSON.stringify(presentAuditEvent(event))}\n`).join('');
  yield lines(first);
  for await (const events of rest) yield lines(events);
}
