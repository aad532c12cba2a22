import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { policy } from '../../config/policy.ts';
import { DomainError } from '../domain/errors.ts';
import { hashPassword, passwordFault } from '../domain/password.ts';
import { notFound, Problem } from '../http/problem.ts';
import { violatedConstraint } from '../storage/database.ts';
import { auditEvent, changeAction } from './audit.ts';
import { answerPage, readPageRequest } from './cursor.ts';
import type { AdminDeps } from './deps.ts';
import { withoutUndefined } from './organizations.ts';
import { type AnyRoute, defineRoute } from './route.ts';
import {
  changeUserSchema,
  created,
  createUserSchema,
  id,
  meSchema,
  pageOf,
  presentUser,
  userQuerySchema,
  userSchema,
} from './schemas.ts';

const params = z.object({ id });

export function userRoutes(deps: AdminDeps): AnyRoute[] {
  const { users, platformTokens, auditEvents, transaction, clock } = deps;
  return [
    defineRoute({
      method: 'post',
      path: '/users',
      operationId: 'createUser',
      summary: 'Create a user, or a service account without a password',
      access: 'machine',
      body: createUserSchema,
      response: created(userSchema, 'The user'),
      errors: [409],
      async handle(request) {
        const { email, name, kind, password } = request.body;
        if (kind === 'service_account' && password !== undefined) throw noPassword();
        const passwordHash = password === undefined ? null : await hash(password);
        const user = { id: uuidv7(), email, name, kind, status: 'active', createdAt: clock() } as const;
        await uniqueEmail(
          transaction(async (tx) => {
            await users.insert({ ...user, passwordHash }, tx);
            await auditEvents.insert(
              [auditEvent(request, 'user.created', user.createdAt, { targetId: user.id })],
              tx,
            );
          }),
        );
        return { body: presentUser(user), location: `/users/${user.id}` };
      },
    }),

    defineRoute({
      method: 'get',
      path: '/users',
      operationId: 'listUsers',
      summary: 'List users; `q` is a literal part of the name or e-mail',
      access: 'machine',
      query: userQuerySchema,
      response: pageOf(userSchema, 'A page of users'),
      async handle({ query }) {
        const page = await users.list(
          query.q,
          readPageRequest(query, 'users', { value: 'time', id: 'uuid' }),
        );
        return answerPage(page, 'users', presentUser);
      },
    }),

    defineRoute({
      method: 'get',
      path: '/users/{id}',
      operationId: 'getUser',
      summary: 'One user',
      access: 'machine',
      params,
      response: { status: 200, description: 'The user', schema: userSchema },
      async handle({ params }) {
        const user = await users.find(params.id);
        if (!user) throw notFound();
        return { body: presentUser(user) };
      },
    }),

    defineRoute({
      method: 'patch',
      path: '/users/{id}',
      operationId: 'changeUser',
      summary: 'Change, deactivate or activate a user; an inactive one stops exchanges at once',
      access: 'machine',
      params,
      body: changeUserSchema,
      response: { status: 200, description: 'The user', schema: userSchema },
      errors: [409],
      async handle(request) {
        const { params } = request;
        const { password, ...change } = request.body;
        // Hashing takes a fifth of a second: never inside the transaction.
        const passwordHash = password === undefined ? undefined : await hash(password);
        return uniqueEmail(
          transaction(async (tx) => {
            const before = await users.lock(params.id, tx);
            if (!before) throw notFound();
            if (before.kind === 'service_account' && passwordHash) throw noPassword();
            // OWASP ASVS 5 §7.4: whoever signed in by the old password, or before the deactivation, is out.
            const isDeactivated = change.status === 'inactive' && before.status === 'active';
            const signsOut = passwordHash !== undefined || isDeactivated;
            await users.update(params.id, { ...change, passwordHash, signsOut }, tx);
            const action = changeAction('user', before, change);
            await auditEvents.insert([auditEvent(request, action, clock(), { targetId: params.id })], tx);
            return { body: presentUser({ ...before, ...withoutUndefined(change) }) };
          }),
        );
      },
    }),

    defineRoute({
      method: 'get',
      path: '/me',
      operationId: 'getMe',
      summary: 'The signed-in user, their memberships, and what is left of the limit in each',
      access: 'any',
      response: { status: 200, description: 'The signed-in user', schema: meSchema },
      async handle({ caller }) {
        if (caller.type !== 'user') throw notFound();
        const now = clock();
        const memberships = await Promise.all(
          caller.memberships.map(async ({ organizationId, organizationName, role }) => {
            const used = await platformTokens.countActive(caller.id, organizationId, now);
            return {
              organization: { id: organizationId, name: organizationName },
              role,
              token_limit: policy.platformTokenLimit,
              tokens_remaining: Math.max(0, policy.platformTokenLimit - used),
            };
          }),
        );
        return { body: { ...presentUser(caller.user), memberships } };
      },
    }),
  ];
}

function hash(password: string): Promise<string> {
  const fault = passwordFault(password);
  if (!fault) return hashPassword(password);
  throw new Problem({
    status: 422,
    title: 'Unprocessable Content',
    detail: 'The body is not valid.',
    errors: [{ pointer: '/password', detail: fault }],
  });
}

async function uniqueEmail<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    if (violatedConstraint(cause) !== 'users_email_key') throw cause;
    throw new DomainError('email_taken', 'Another user has this e-mail address.', { cause });
  }
}

function noPassword(): DomainError {
  return new DomainError('password_not_allowed', 'A service account does not sign in.');
}
