import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { notFound } from '../http/problem.ts';
import { auditEvent, changeAction } from './audit.ts';
import type { Caller } from './caller.ts';
import { answerPage, readPageRequest } from './cursor.ts';
import type { AdminDeps } from './deps.ts';
import { type AnyRoute, defineRoute } from './route.ts';
import {
  changeOrganizationSchema,
  created,
  createOrganizationSchema,
  id,
  memberQuerySchema,
  memberSchema,
  membershipSchema,
  organizationSchema,
  pageOf,
  pageQuery,
  presentMember,
  presentOrganization,
  putMemberSchema,
} from './schemas.ts';

const params = z.object({ id });
const memberParams = z.object({ id, user_id: id });
const listQuery = z.strictObject(pageQuery);

export function organizationRoutes(deps: AdminDeps): AnyRoute[] {
  const { organizations, memberships, users, platformTokens, auditEvents, transaction, clock } = deps;
  return [
    defineRoute({
      method: 'post',
      path: '/organizations',
      operationId: 'createOrganization',
      summary: 'Create an organization',
      access: 'machine',
      body: createOrganizationSchema,
      response: created(organizationSchema, 'The organization'),
      async handle(request) {
        const organization = {
          id: uuidv7(),
          name: request.body.name,
          status: 'active',
          createdAt: clock(),
        } as const;
        await transaction(async (tx) => {
          await organizations.insert(organization, tx);
          const subject = { organizationId: organization.id, targetId: organization.id };
          await auditEvents.insert(
            [auditEvent(request, 'organization.created', organization.createdAt, subject)],
            tx,
          );
        });
        return { body: presentOrganization(organization), location: `/organizations/${organization.id}` };
      },
    }),

    defineRoute({
      method: 'get',
      path: '/organizations',
      operationId: 'listOrganizations',
      summary: 'List organizations',
      access: 'machine',
      query: listQuery,
      response: pageOf(organizationSchema, 'A page of organizations'),
      async handle({ query }) {
        const page = await organizations.list(
          readPageRequest(query, 'organizations', { value: 'time', id: 'uuid' }),
        );
        return answerPage(page, 'organizations', presentOrganization);
      },
    }),

    defineRoute({
      method: 'get',
      path: '/organizations/{id}',
      operationId: 'getOrganization',
      summary: 'One organization',
      access: 'machine',
      params,
      response: { status: 200, description: 'The organization', schema: organizationSchema },
      async handle({ params }) {
        const organization = await organizations.find(params.id);
        if (!organization) throw notFound();
        return { body: presentOrganization(organization) };
      },
    }),

    defineRoute({
      method: 'patch',
      path: '/organizations/{id}',
      operationId: 'changeOrganization',
      summary: 'Rename, deactivate or activate an organization; an inactive one stops exchanges at once',
      access: 'machine',
      params,
      body: changeOrganizationSchema,
      response: { status: 200, description: 'The organization', schema: organizationSchema },
      async handle(request) {
        const { params, body } = request;
        return transaction(async (tx) => {
          const before = await organizations.lock(params.id, tx);
          if (!before) throw notFound();
          await organizations.update(params.id, body, tx);
          const subject = { organizationId: params.id, targetId: params.id };
          const action = changeAction('organization', before, body);
          await auditEvents.insert([auditEvent(request, action, clock(), subject)], tx);
          return { body: presentOrganization({ ...before, ...withoutUndefined(body) }) };
        });
      },
    }),

    defineRoute({
      method: 'get',
      path: '/organizations/{id}/members',
      operationId: 'listMembers',
      summary: "List an organization's members; `q` is a literal part of the name or e-mail",
      access: 'tokens:read',
      params,
      query: memberQuerySchema,
      response: pageOf(memberSchema, 'A page of members'),
      async handle({ caller, params, query }) {
        checkMayRead(caller, params.id);
        if (!(await organizations.find(params.id))) throw notFound();
        const request = readPageRequest(query, 'members', { value: 'time', id: 'uuid' });
        const filter = { userIds: query.user_id, text: query.q };
        const page = await memberships.listMembers(params.id, filter, request);
        return answerPage(page, 'members', presentMember);
      },
    }),

    defineRoute({
      method: 'put',
      path: '/organizations/{id}/members/{user_id}',
      operationId: 'putMember',
      summary: 'Make a user a member, or change their role',
      access: 'machine',
      params: memberParams,
      body: putMemberSchema,
      response: { status: 200, description: 'The membership', schema: membershipSchema },
      async handle(request) {
        const { params, body } = request;
        const organization = await organizations.find(params.id);
        const user = await users.find(params.user_id);
        if (!organization || !user) throw notFound();
        await transaction(async (tx) => {
          const before = await memberships.lock(params.id, params.user_id, tx);
          await memberships.put(params.id, params.user_id, body.role, clock(), tx);
          const action = before ? 'membership.changed' : 'membership.added';
          const subject = { organizationId: params.id, targetId: params.user_id };
          await auditEvents.insert([auditEvent(request, action, clock(), subject)], tx);
        });
        return { body: { organization_id: params.id, user_id: params.user_id, role: body.role } };
      },
    }),

    defineRoute({
      method: 'delete',
      path: '/organizations/{id}/members/{user_id}',
      operationId: 'removeMember',
      summary: "Remove a member, and revoke the member's tokens in the organization for good",
      access: 'machine',
      params: memberParams,
      response: { status: 204, description: 'Removed' },
      async handle(request) {
        const { params, caller } = request;
        await transaction(async (tx) => {
          // The lock first: a token that is being made for this member is revoked too, or not made at all.
          if (!(await memberships.lock(params.id, params.user_id, tx))) throw notFound();
          const at = clock();
          const filter = { organizationId: params.id, userId: params.user_id };
          const revoked = await platformTokens.revoke(filter, { all: true }, { actorId: caller.id, at }, tx);
          await memberships.remove(params.id, params.user_id, tx);
          const reason = 'membership removed';
          await auditEvents.insert(
            [
              auditEvent(request, 'membership.removed', at, {
                organizationId: params.id,
                targetId: params.user_id,
              }),
              ...revoked.map((token) =>
                auditEvent(request, 'token.revoked', at, {
                  organizationId: params.id,
                  tokenId: token.id,
                  reason,
                }),
              ),
            ],
            tx,
          );
        });
        return {};
      },
    }),
  ];
}

/** An organization's admins read its members; to everybody else they do not exist. */
function checkMayRead(caller: Caller, organizationId: string): void {
  if (caller.type === 'client') return;
  const membership = caller.memberships.find((own) => own.organizationId === organizationId);
  if (membership?.role !== 'admin') throw notFound();
}

export function withoutUndefined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined)) as never;
}
