import { STATUS_CODES } from 'node:http';
import type { Context, Middleware } from 'koa';
import { policy } from '../../config/policy.ts';
import { DomainError, type DomainErrorCode } from '../domain/errors.ts';
import { isDatabaseFault, isDatabaseUnavailable } from '../storage/database.ts';
import { Problem, type ProblemDetails, writeProblem } from './problem.ts';

/** The one table from the product's refusals to statuses. */
const domainProblems: Record<DomainErrorCode, { status: number; type: string; title: string }> = {
  token_limit_reached: { status: 409, type: 'token-limit-reached', title: 'Token limit reached' },
  not_a_member: { status: 422, type: 'not-a-member', title: 'Not a member of the organization' },
  service_inactive: { status: 409, type: 'service-inactive', title: 'Service is inactive' },
  organization_inactive: { status: 409, type: 'organization-inactive', title: 'Organization is inactive' },
  user_inactive: { status: 409, type: 'user-inactive', title: 'User is inactive' },
  service_not_found: { status: 422, type: 'service-not-found', title: 'Unknown service' },
  organization_not_found: { status: 422, type: 'organization-not-found', title: 'Unknown organization' },
  user_not_found: { status: 422, type: 'user-not-found', title: 'Unknown user' },
  email_taken: { status: 409, type: 'email-taken', title: 'E-mail address is taken' },
  service_taken: { status: 409, type: 'service-taken', title: 'Service id is taken' },
  audience_taken: { status: 409, type: 'audience-taken', title: 'Audience is taken' },
  password_not_allowed: {
    status: 422,
    type: 'password-not-allowed',
    title: 'A service account has no password',
  },
  rotation_pending: { status: 409, type: 'rotation-pending', title: 'The next key waits already' },
  key_schedule_unsafe: { status: 422, type: 'key-schedule-unsafe', title: 'Unsafe key schedule' },
};

/** Every error that reaches the edge becomes one answer here, and what is unknown a 500 that says nothing. */
export function errorMapper(deps: {
  readonly issuer: string;
  readonly onUnexpected: (error: unknown, ctx: Context) => void;
}): Middleware {
  return async (ctx, next) => {
    try {
      await next();
      if (ctx.status >= 400 && ctx.body == null) {
        writeProblem(ctx, deps.issuer, { status: ctx.status, title: STATUS_CODES[ctx.status] ?? 'Error' });
      }
    } catch (error) {
      const problem = toProblem(error);
      if (problem.status === 500 || isDatabaseFault(error)) deps.onUnexpected(error, ctx);
      writeProblem(ctx, deps.issuer, problem);
    }
  };
}

function toProblem(error: unknown): ProblemDetails {
  if (error instanceof Problem) return error.details;
  if (error instanceof DomainError) return { ...domainProblems[error.code], detail: error.message };
  if (isDatabaseUnavailable(error)) {
    return {
      status: 503,
      title: 'Service Unavailable',
      detail: 'The database is out of reach; try again.',
      headers: { 'Retry-After': String(policy.retryAfter) },
    };
  }
  if (error instanceof URIError)
    return { status: 400, title: 'Bad Request', detail: 'The path is not properly encoded.' };
  return { status: 500, title: 'Internal Server Error' };
}
