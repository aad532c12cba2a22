import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { clientIdPattern } from '../../config/policy.ts';
import { createClientSecret } from '../domain/client-secret.ts';
import { DomainError } from '../domain/errors.ts';
import { notFound, Problem } from '../http/problem.ts';
import { systemEvent } from '../storage/audit-events.ts';
import type { Client } from '../storage/clients.ts';
import { violatedConstraint } from '../storage/database.ts';
import { auditEvent } from './audit.ts';
import { answerPage, readPageRequest } from './cursor.ts';
import type { AdminDeps } from './deps.ts';
import { withoutUndefined } from './organizations.ts';
import { type AnyRoute, defineRoute, type Request } from './route.ts';
import {
  changeClientSchema,
  clientSchema,
  clientWithSecretSchema,
  createClientSchema,
  created,
  pageOf,
  pageQuery,
  presentClient,
} from './schemas.ts';

const params = z.object({ client_id: z.string().regex(clientIdPattern) });

export function clientRoutes(deps: AdminDeps): AnyRoute[] {
  const { clients, auditEvents, transaction, clock } = deps;

  /** Locks the client, changes it, writes the event; one transaction. */
  const change = (
    request: Request<{ client_id: string }, unknown, unknown>,
    action: string,
    values: (before: Client) => Parameters<typeof clients.update>[1],
  ): Promise<Client> =>
    knownService(
      transaction(async (tx) => {
        const { client_id: id } = request.params;
        const before = await clients.lock(id, tx);
        if (!before) throw notFound();
        const update = values(before);
        await clients.update(id, update, tx);
        await auditEvents.insert([auditEvent(request, action, clock(), { targetId: id })], tx);
        return { ...before, ...update };
      }),
    );

  return [
    defineRoute({
      method: 'post',
      path: '/clients',
      operationId: 'createClient',
      summary: 'Create a confidential client; its secret is in this answer only',
      access: 'machine',
      body: createClientSchema,
      response: created(clientWithSecretSchema, 'The client with its secret'),
      async handle(request) {
        const { body } = request;
        const { secret, digest } = createClientSecret();
        const client: Client = {
          id: uuidv7(),
          name: body.name,
          secretDigest: digest,
          grantTypes: unique(body.grant_types),
          scopes: scopesOf(body.scope),
          redirectUris: body.redirect_uris ?? [],
          serviceId: body.service ?? null,
          createdAt: clock(),
        };
        await knownService(
          transaction(
            async (tx) => {
              await clients.insert(client, tx);
              await auditEvents.insert(
                [auditEvent(request, 'client.created', client.createdAt, { targetId: client.id })],
                tx,
              );
            },
            {
              // Its caller was told that there is none: nobody has its secret.
              async undo(_, tx) {
                if (!(await clients.delete(client.id, tx))) return;
                const deleted = { at: clock(), action: 'client.deleted', targetId: client.id };
                await auditEvents.insert([systemEvent('client-creation', deleted)], tx);
              },
            },
          ),
        );
        return {
          body: { ...presentClient(client), client_secret: secret },
          location: `/clients/${client.id}`,
        };
      },
    }),

    defineRoute({
      method: 'get',
      path: '/clients',
      operationId: 'listClients',
      summary: 'List clients, never their secrets',
      access: 'machine',
      query: z.strictObject(pageQuery),
      response: pageOf(clientSchema, 'A page of clients'),
      async handle({ query }) {
        const page = await clients.list(readPageRequest(query, 'clients', { value: 'time', id: 'text' }));
        return answerPage(page, 'clients', presentClient);
      },
    }),

    defineRoute({
      method: 'get',
      path: '/clients/{client_id}',
      operationId: 'getClient',
      summary: 'One client',
      access: 'machine',
      params,
      response: { status: 200, description: 'The client', schema: clientSchema },
      async handle({ params }) {
        const client = await clients.find(params.client_id);
        if (!client) throw notFound();
        return { body: presentClient(client) };
      },
    }),

    defineRoute({
      method: 'patch',
      path: '/clients/{client_id}',
      operationId: 'changeClient',
      summary: 'Change a client',
      access: 'machine',
      params,
      body: changeClientSchema,
      response: { status: 200, description: 'The client', schema: clientSchema },
      async handle(request) {
        const { body } = request;
        const changed = await change(request, 'client.updated', (before) => {
          const update = withoutUndefined({
            name: body.name,
            grantTypes: body.grant_types && unique(body.grant_types),
            scopes: body.scope === undefined ? undefined : scopesOf(body.scope),
            redirectUris: body.redirect_uris,
            serviceId: body.service,
          });
          const after = { ...before, ...update };
          if (after.grantTypes.includes('authorization_code') && after.redirectUris.length === 0) {
            throw invalid('/redirect_uris', 'authorization_code needs redirect_uris');
          }
          return update;
        });
        return { body: presentClient(changed) };
      },
    }),

    defineRoute({
      method: 'post',
      path: '/clients/{client_id}/rotate-secret',
      operationId: 'rotateClientSecret',
      summary: 'Replace the secret; the old one is refused at once',
      access: 'machine',
      params,
      // There is nothing to say: whoever says something hears of it before the secret changes.
      body: z.strictObject({}),
      optionalBody: true,
      response: {
        status: 200,
        description: 'The client with its new secret',
        schema: clientWithSecretSchema,
      },
      async handle(request) {
        const { secret, digest } = createClientSecret();
        const changed = await change(request, 'client.secret_rotated', () => ({ secretDigest: digest }));
        return { body: { ...presentClient(changed), client_secret: secret } };
      },
    }),

    defineRoute({
      method: 'delete',
      path: '/clients/{client_id}',
      operationId: 'deleteClient',
      summary: 'Delete a client; its access tokens open the admin API no more',
      access: 'machine',
      params,
      response: { status: 204, description: 'Deleted' },
      async handle(request) {
        const { client_id: id } = request.params;
        await transaction(async (tx) => {
          if (!(await clients.delete(id, tx))) throw notFound();
          await auditEvents.insert([auditEvent(request, 'client.deleted', clock(), { targetId: id })], tx);
        });
        return {};
      },
    }),
  ];
}

function scopesOf(scope: string | undefined): string[] {
  return unique((scope ?? '').split(' ').filter(Boolean));
}

function unique<T>(list: readonly T[]): T[] {
  return [...new Set(list)];
}

async function knownService<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    if (
      violatedConstraint(cause) !== 'clients_service_id_foreign' &&
      violatedConstraint(cause) !== 'clients_service_id_fkey'
    )
      throw cause;
    throw new DomainError('service_not_found', 'There is no such service.', { cause });
  }
}

function invalid(pointer: string, detail: string): Problem {
  return new Problem({
    status: 422,
    title: 'Unprocessable Content',
    detail: 'The body is not valid.',
    errors: [{ pointer, detail }],
  });
}
