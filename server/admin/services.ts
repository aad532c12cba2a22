import { z } from 'zod';
import { DomainError } from '../domain/errors.ts';
import { notFound } from '../http/problem.ts';
import { violatedConstraint } from '../storage/database.ts';
import { auditEvent, changeAction } from './audit.ts';
import { answerPage, readPageRequest } from './cursor.ts';
import type { AdminDeps } from './deps.ts';
import { withoutUndefined } from './organizations.ts';
import { type AnyRoute, defineRoute } from './route.ts';
import {
  changeServiceSchema,
  created,
  createServiceSchema,
  pageOf,
  pageQuery,
  presentService,
  serviceSchema,
  slug,
} from './schemas.ts';

const params = z.object({ id: slug });

export function serviceRoutes(deps: AdminDeps): AnyRoute[] {
  const { services, auditEvents, transaction, clock, issuer } = deps;
  return [
    defineRoute({
      method: 'post',
      path: '/services',
      operationId: 'createService',
      summary: 'Create a service',
      access: 'machine',
      body: createServiceSchema,
      response: created(serviceSchema, 'The service'),
      errors: [409],
      async handle(request) {
        const service = { ...request.body, status: 'active', createdAt: clock() } as const;
        // A service with this server's own audience would make its tokens keys to the admin API.
        if (isOwnAudience(service.audience, issuer)) {
          throw new DomainError('audience_taken', 'The audience belongs to the authorization server itself.');
        }
        await unique(
          transaction(async (tx) => {
            await services.insert(service, tx);
            const event = auditEvent(request, 'service.created', service.createdAt, { targetId: service.id });
            await auditEvents.insert([event], tx);
          }),
        );
        return { body: presentService(service), location: `/services/${service.id}` };
      },
    }),

    defineRoute({
      method: 'get',
      path: '/services',
      operationId: 'listServices',
      summary: 'List services',
      access: 'any',
      query: z.strictObject(pageQuery),
      response: pageOf(serviceSchema, 'A page of services'),
      async handle({ query }) {
        const page = await services.list(readPageRequest(query, 'services', { value: 'text', id: 'text' }));
        return answerPage(page, 'services', presentService);
      },
    }),

    defineRoute({
      method: 'get',
      path: '/services/{id}',
      operationId: 'getService',
      summary: 'One service',
      access: 'any',
      params,
      response: { status: 200, description: 'The service', schema: serviceSchema },
      async handle({ params }) {
        const service = await services.find(params.id);
        if (!service) throw notFound();
        return { body: presentService(service) };
      },
    }),

    defineRoute({
      method: 'patch',
      path: '/services/{id}',
      operationId: 'changeService',
      summary: 'Change a service; new scopes hold for platform tokens made from then on',
      access: 'machine',
      params,
      body: changeServiceSchema,
      response: { status: 200, description: 'The service', schema: serviceSchema },
      async handle(request) {
        const { params, body } = request;
        return transaction(async (tx) => {
          const before = await services.lock(params.id, tx);
          if (!before) throw notFound();
          await services.update(params.id, withoutUndefined(body), tx);
          const action = changeAction('service', before, body);
          await auditEvents.insert([auditEvent(request, action, clock(), { targetId: params.id })], tx);
          return { body: presentService({ ...before, ...withoutUndefined(body) }) };
        });
      },
    }),
  ];
}

function isOwnAudience(audience: string, issuer: string): boolean {
  const normal = (uri: string) => new URL(uri).href.replace(/\/+$/, '');
  return [issuer, `${issuer}/admin`].map(normal).includes(normal(audience));
}

async function unique<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    const constraint = violatedConstraint(cause);
    if (constraint === 'services_pkey') throw new DomainError('service_taken', 'The id is taken.', { cause });
    if (constraint === 'services_audience_key') {
      throw new DomainError('audience_taken', 'Another service has this audience.', { cause });
    }
    throw cause;
  }
}
