import type { Knex } from 'knex';
import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { policy } from '../../config/policy.ts';
import { DomainError } from '../domain/errors.ts';
import { createPlatformToken } from '../domain/platform-token.ts';
import { notFound, Problem } from '../http/problem.ts';
import { systemEvent } from '../storage/audit-events.ts';
import type { PlatformToken, RevokedToken, TokenSort } from '../storage/platform-tokens.ts';
import { type Revocation, revokeWithTrail } from '../storage/revocation.ts';
import { auditEvent } from './audit.ts';
import type { Caller } from './caller.ts';
import { answerPage, readPageRequest } from './cursor.ts';
import type { AdminDeps } from './deps.ts';
import { type AnyRoute, defineRoute } from './route.ts';
import {
  created,
  createdTokenSchema,
  createTokenSchema,
  id,
  pageOf,
  presentToken,
  revokedSchema,
  revokeSchema,
  tokenQuerySchema,
  tokenSchema,
} from './schemas.ts';

const params = z.object({ id });
const withdrawer = 'token-creation';

export function tokenRoutes(deps: AdminDeps): AnyRoute[] {
  const { platformTokens, auditEvents, transaction, clock } = deps;
  return [
    defineRoute({
      method: 'post',
      path: '/tokens',
      operationId: 'createToken',
      summary: 'Generate a platform token; its secret is in this answer only',
      access: 'tokens:write',
      body: createTokenSchema,
      response: created(createdTokenSchema, 'The token with its secret'),
      errors: [409],
      async handle(request) {
        const owner = resolveOwner(request.caller, request.body);
        const { token, secret } = await createToken(deps, owner, request.body, (created) =>
          auditEvent(request, 'token.created', created.createdAt, {
            organizationId: created.organizationId,
            tokenId: created.id,
          }),
        );
        return {
          body: { ...presentToken(token, clock()), token: secret },
          location: `/tokens/${token.id}`,
        };
      },
    }),

    defineRoute({
      method: 'get',
      path: '/tokens',
      operationId: 'listTokens',
      summary: 'List platform tokens, never their secrets',
      access: 'tokens:read',
      query: tokenQuerySchema,
      response: pageOf(tokenSchema, 'A page of tokens'),
      async handle({ caller, query }) {
        const descending = query.sort.startsWith('-');
        const by = query.sort.replace('-', '') as TokenSort;
        const now = clock();
        const page = await platformTokens.list(
          caller.visibility,
          {
            organizationId: query.organization_id,
            userId: query.user_id,
            services: query.service,
            nameContains: query.q,
            statuses: query.status ?? ['active', 'expired'],
          },
          { by, descending },
          readPageRequest(query, query.sort, { value: by === 'name' ? 'text' : 'time', id: 'uuid' }),
          now,
        );
        return answerPage(page, query.sort, (token) => presentToken(token, now));
      },
    }),

    defineRoute({
      method: 'get',
      path: '/tokens/{id}',
      operationId: 'getToken',
      summary: 'One platform token',
      access: 'tokens:read',
      params,
      response: { status: 200, description: 'The token', schema: tokenSchema },
      async handle({ caller, params }) {
        const token = await platformTokens.find(params.id, caller.visibility);
        if (!token) throw notFound();
        return { body: presentToken(token, clock()) };
      },
    }),

    defineRoute({
      method: 'delete',
      path: '/tokens/{id}',
      operationId: 'revokeToken',
      summary: 'Revoke a platform token for good',
      access: 'tokens:write',
      params,
      response: { status: 204, description: 'Revoked, now or before' },
      async handle(request) {
        const { caller, params } = request;
        if (!(await platformTokens.find(params.id, caller.visibility))) throw notFound();
        await revoke({ ids: [params.id] }, request, undefined);
        return {};
      },
    }),

    defineRoute({
      method: 'post',
      path: '/tokens/revoke',
      operationId: 'revokeTokens',
      summary: 'Revoke many platform tokens, by their ids or by a filter, in one transaction',
      access: 'tokens:write',
      body: revokeSchema,
      response: { status: 200, description: 'What was revoked', schema: revokedSchema },
      async handle(request) {
        const { body, caller } = request;
        if (!body.ids) {
          const filter = {
            organizationId: body.organization_id,
            userId: body.user_id,
            services: body.service ? [body.service] : undefined,
          };
          return { body: { revoked: await revoke(filter, request, body.reason), not_found: [] } };
        }
        const visible = await platformTokens.visibleIds(body.ids, caller.visibility);
        const unseen = [...new Set(body.ids)].filter((wanted) => !visible.has(wanted));
        return {
          body: { revoked: await revoke({ ids: [...visible] }, request, body.reason), not_found: unseen },
        };
      },
    }),
  ];

  async function revoke(
    choice: Revocation['choice'],
    request: Parameters<typeof auditEvent>[0],
    reason: string | undefined,
  ): Promise<number> {
    const { id: actorId, visibility } = request.caller;
    const at = clock();
    const event = ({ id: tokenId, organizationId }: RevokedToken) =>
      auditEvent(request, 'token.revoked', at, { organizationId, tokenId, reason: reason ?? null });
    const revoked = await transaction((tx) =>
      revokeWithTrail({ platformTokens, auditEvents }, { choice, visibility, actorId, at, event }, tx),
    );
    return revoked.length;
  }
}

interface Owner {
  readonly organizationId: string;
  readonly userId: string;
}

/** For whom: a user for themselves, a machine administrator for the user that it names. */
function resolveOwner(
  caller: Caller,
  body: { organization_id?: string | undefined; user_id?: string | undefined },
): Owner {
  if (caller.type === 'client') {
    const missing = (['organization_id', 'user_id'] as const).filter((member) => !body[member]);
    if (missing.length > 0) throw unprocessable(missing, 'is required for a machine administrator');
    return { organizationId: String(body.organization_id), userId: String(body.user_id) };
  }
  // Even an organization's admin generates only their own.
  if (body.user_id && body.user_id !== caller.id)
    throw unprocessable(['user_id'], 'is for machine administrators');
  const [only, ...others] = caller.memberships;
  const organizationId = body.organization_id ?? (others.length === 0 ? only?.organizationId : undefined);
  if (!organizationId)
    throw unprocessable(['organization_id'], 'is required for a user without exactly one membership');
  if (!caller.memberships.some((membership) => membership.organizationId === organizationId)) {
    throw unprocessable(['organization_id'], 'is not an organization of the caller');
  }
  return { organizationId, userId: caller.id };
}

function unprocessable(members: readonly string[], detail: string): Problem {
  return new Problem({
    status: 422,
    title: 'Unprocessable Content',
    detail: 'The body is not valid.',
    errors: members.map((member) => ({ pointer: `/${member}`, detail })),
  });
}

/** The membership's lock makes count and insert one step, whatever runs beside it (contract §7: the limit). */
export function createToken(
  {
    transaction,
    memberships,
    organizations,
    users,
    services,
    platformTokens,
    auditEvents,
    tokenPrefix,
    clock,
  }: AdminDeps,
  { organizationId, userId }: Owner,
  { name, service: serviceId }: { name: string; service: string },
  event: (token: PlatformToken) => Parameters<typeof auditEvents.insert>[0][number],
): Promise<{ token: PlatformToken; secret: string }> {
  return transaction(create, { undo: withdraw });

  async function create(tx: Knex.Transaction): Promise<{ token: PlatformToken; secret: string }> {
    const role = await memberships.lock(organizationId, userId, tx);
    if (!role) throw new DomainError('not_a_member', 'The user is not a member of the organization.');
    const organization = await organizations.find(organizationId, tx);
    if (organization?.status !== 'active')
      throw new DomainError('organization_inactive', 'The organization is inactive.');
    const user = await users.find(userId, tx);
    if (user?.status !== 'active') throw new DomainError('user_inactive', 'The user is inactive.');
    const service = await services.find(serviceId, tx);
    if (!service) throw new DomainError('service_not_found', 'There is no such service.');
    if (service.status !== 'active') throw new DomainError('service_inactive', 'The service is inactive.');

    const createdAt = clock();
    const active = await platformTokens.countActive(userId, organizationId, createdAt, tx);
    if (active >= policy.platformTokenLimit) {
      throw new DomainError(
        'token_limit_reached',
        `A user has at most ${policy.platformTokenLimit} active tokens in an organization.`,
      );
    }
    const { token: secret, digest, hint } = createPlatformToken(tokenPrefix);
    const token = {
      id: uuidv7(),
      organizationId,
      userId,
      serviceId,
      name,
      digest,
      hint,
      scopes: [...service.scopes],
      createdAt,
      expiresAt: new Date(createdAt.getTime() + policy.platformTokenLifetime * 1000),
    };
    await platformTokens.insert(token, tx);
    const created: PlatformToken = {
      ...token,
      serviceName: service.name,
      lastUsedAt: null,
      lastUsedIp: null,
      revokedAt: null,
      revokedBy: null,
    };
    await auditEvents.insert([event(created)], tx);
    return { token: created, secret };
  }

  /** Its caller was told that there is none: one that is there after all has a secret that nobody saw. */
  async function withdraw({ token }: { token: PlatformToken }, tx: Knex.Transaction): Promise<void> {
    const at = clock();
    const reason = 'the answer to its creation was lost';
    await revokeWithTrail(
      { platformTokens, auditEvents },
      {
        choice: { ids: [token.id] },
        visibility: { all: true },
        actorId: withdrawer,
        at,
        event: ({ id: tokenId, organizationId }) => ({
          ...systemEvent(withdrawer, { at, action: 'token.revoked', organizationId, tokenId }),
          reason,
        }),
      },
      tx,
    );
  }
}
