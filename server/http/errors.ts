import { STATUS_CODES } from 'node:http';
import type { Context, Middleware } from 'koa';
import { policy } from '../../config/policy.ts';
import { DomainError } from '../domain/errors.ts';
import { isDatabaseFault, isDatabaseUnavailable } from '../storage/database.ts';
import { Problem, type ProblemDetails, writeProblem } from './problem.ts';
import { problemTypeOf, problemTypes } from './problem-types.ts';

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
  if (error instanceof DomainError) {
    const type = problemTypeOf(error.code);
    const { status, title } = problemTypes[type];
    return { status, type, title, detail: error.message };
  }
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
