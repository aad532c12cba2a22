import type Router from '@koa/router';
import { policy } from '../../config/policy.ts';
import type { DomainErrorCode } from '../domain/errors.ts';
import { documentOf, writeDocument } from './documents.ts';
import { notFound } from './problem.ts';
import { createRouter } from './router.ts';

export interface ProblemType {
  readonly status: number;
  readonly title: string;
  /** What happened and what helps, for who reads the page of the type. */
  readonly help: string;
}

type Dashed<Code extends string> = Code extends `${infer Head}_${infer Tail}`
  ? `${Head}-${Dashed<Tail>}`
  : Code;
export type ProblemTypeName = Dashed<DomainErrorCode> | 'too-many-requests';

/** Problem types (RFC 9457 §3.1.1) by the last segment of their URI: the one table from the product's refusals to statuses. */
export const problemTypes: Readonly<Record<ProblemTypeName, ProblemType>> = {
  'token-limit-reached': {
    status: 409,
    title: 'Token limit reached',
    help: `A user has at most ${policy.platformTokenLimit} active platform tokens in an organization. Delete one that is not used any more; revoked and expired ones do not count.`,
  },
  'not-a-member': {
    status: 422,
    title: 'Not a member of the organization',
    help: 'A platform token belongs to a member of its organization. Add the user to it first, or name another organization.',
  },
  'service-inactive': {
    status: 409,
    title: 'Service is inactive',
    help: 'No platform tokens are made for a service that is inactive. An administrator can make it active again.',
  },
  'organization-inactive': {
    status: 409,
    title: 'Organization is inactive',
    help: 'No platform tokens are made in an organization that is inactive. An administrator can make it active again.',
  },
  'user-inactive': {
    status: 409,
    title: 'User is inactive',
    help: 'No platform tokens are made for a user who is inactive. An administrator can make them active again.',
  },
  'service-not-found': {
    status: 422,
    title: 'Unknown service',
    help: 'There is no service with this id. GET /admin/services lists them.',
  },
  'organization-not-found': {
    status: 422,
    title: 'Unknown organization',
    help: 'There is no organization with this id.',
  },
  'user-not-found': { status: 422, title: 'Unknown user', help: 'There is no user with this id.' },
  'email-taken': {
    status: 409,
    title: 'E-mail address is taken',
    help: 'Another user has this e-mail address, perhaps in other letters: upper and lower case are the same.',
  },
  'service-taken': {
    status: 409,
    title: 'Service id is taken',
    help: 'Another service has this id. Ids stay, so choose another one.',
  },
  'audience-taken': {
    status: 409,
    title: 'Audience is taken',
    help: 'Another service has this audience, or it is one of the authorization server itself. Each has its own, so that a token for one opens no other.',
  },
  'password-not-allowed': {
    status: 422,
    title: 'A service account has no password',
    help: 'Service accounts do not sign in: leave out the password, or make a user of the kind person.',
  },
  'rotation-pending': {
    status: 409,
    title: 'The next key waits already',
    help: 'A signing key is published and has not taken over yet. Wait for it, or rotate with "emergency", which replaces all keys at once.',
  },
  'key-schedule-unsafe': {
    status: 422,
    title: 'Unsafe key schedule',
    help: 'With this "activates_at" verifiers could meet signatures of a key that they do not know yet, or the key would hold up others for too long. The detail says which times are possible.',
  },
  'too-many-requests': {
    status: 429,
    title: 'Too Many Requests',
    help: 'A rate limit is used up. Retry-After says in how many seconds to try again, RateLimit and RateLimit-Policy which limit it is.',
  },
};

export const problemTypeOf = (code: DomainErrorCode) => code.replaceAll('_', '-') as ProblemTypeName;

/** The pages that the types' URIs lead to. */
export function problemTypeRoutes(): Router {
  const pages = new Map(
    Object.entries(problemTypes).map(([name, { status, title, help }]) => {
      const body = `${title}\n\n${help}\n\nStatus ${status}, type ${name} (RFC 9457).\n`;
      return [name, documentOf(body)];
    }),
  );
  const router = createRouter('/problems');
  router.get('/:type', (ctx) => {
    const page = pages.get(String(ctx.params.type));
    if (!page) throw notFound();
    writeDocument(ctx, page, 'text/plain; charset=utf-8', policy.metadataMaxAge);
  });
  return router;
}
