import { Readable } from 'node:stream';
import type Router from '@koa/router';
import type { Context } from 'koa';
import { z } from 'zod';
import { policy } from '../../config/policy.ts';
import { BodyError, readBody } from '../http/body.ts';
import { Problem } from '../http/problem.ts';
import { createRouter } from '../http/router.ts';
import { type Authenticate, type Caller, insufficientScope } from './caller.ts';
import { linkHeader, type PageLinks } from './links.ts';
import type { WriteLimit } from './write-limit.ts';

/** Who may call a route: machine administrators only, or users with this scope as well, or any user. */
export type Access = 'machine' | 'tokens:read' | 'tokens:write' | 'any';

/** https://jsonlines.org, by the media type that most know. */
export const jsonLines = 'application/x-ndjson';

export interface Response {
  readonly status?: number;
  readonly body?: unknown;
  /** Below `/admin`, of what was created. */
  readonly location?: string;
  /** In the place of a body: JSON Lines, written as fast as they are read. */
  readonly lines?: AsyncIterable<string>;
  /** Cursors of the pages beside this one. */
  readonly links?: PageLinks;
}

export interface Request<P, Q, B> {
  readonly caller: Caller;
  readonly params: P;
  readonly query: Q;
  readonly body: B;
  readonly ctx: Context;
}

/** A route as data: the same declaration authorizes, validates and describes itself in the OpenAPI document. */
export interface Route<P = unknown, Q = unknown, B = unknown> {
  readonly method: 'get' | 'post' | 'put' | 'patch' | 'delete';
  /** Below `/admin`, with `{parameters}` as OpenAPI writes them. */
  readonly path: string;
  readonly operationId: string;
  readonly summary: string;
  readonly access: Access;
  readonly params?: z.ZodType<P>;
  readonly query?: z.ZodType<Q>;
  readonly body?: z.ZodType<B>;
  /** Whether the body may be left out, as if it were an empty object. */
  readonly optionalBody?: boolean;
  readonly response: {
    readonly status: number;
    readonly description: string;
    readonly schema?: z.ZodType;
    /** Of a line, where the route answers in JSON Lines too. */
    readonly line?: z.ZodType;
    /** OpenAPI's header objects. */
    readonly headers?: Readonly<Record<string, object>>;
  };
  /** Statuses of errors beyond those that every route has. */
  readonly errors?: readonly number[];
  readonly handle: (request: Request<P, Q, B>) => Promise<Response>;
}

// Heterogeneous routes in one list: each was checked against its own schemas where it was defined.
// biome-ignore lint/suspicious/noExplicitAny: the parameters are contravariant
export type AnyRoute = Route<any, any, any>;

export function defineRoute<P, Q, B>(route: Route<P, Q, B>): AnyRoute {
  return route;
}

export function createAdminRouter(
  routes: readonly AnyRoute[],
  { verify, findCaller }: Authenticate,
  countWrite: WriteLimit,
  issuer: string,
): Router {
  const router = createRouter('/admin');
  for (const route of routes) {
    const path = route.path.replace(/\{(\w+)\}/g, ':$1');
    router[route.method](path, async (ctx) => {
      ctx.state.route = `/admin${path}`;
      const claims = await verify(ctx);
      // Before anything is asked of the database: a flood of writes costs it nothing.
      if (route.method !== 'get') countWrite(claims);
      const caller = await findCaller(claims);
      authorize(caller, route.access);
      const request = {
        caller,
        ctx,
        params: parseParams(route, ctx.params),
        query: parseQuery(route, ctx),
        body: await parseBody(route, ctx),
      };
      const { status = route.response.status, body, lines, location, links } = await route.handle(request);
      ctx.status = status;
      const link = links && linkHeader(urlOf(issuer, route, request.params), ctx.querystring, links);
      ctx.set({
        'Cache-Control': 'no-store',
        ...(link ? { Link: link } : {}),
        ...(location ? { Location: `${issuer}/admin${location}` } : {}),
      });
      if (lines) {
        ctx.type = jsonLines;
        // Koa ends it when the client goes away.
        ctx.body = Readable.from(lines, { objectMode: false });
        return;
      }
      if (body === undefined) return;
      ctx.type = 'application/json';
      ctx.body = JSON.stringify(body);
    });
  }
  return router;
}

/** From the issuer and what was validated, never from the request's Host or its spelling of the path. */
function urlOf(issuer: string, route: AnyRoute, params: Readonly<Record<string, string>>): string {
  const path = route.path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(String(params[name])));
  return `${issuer}/admin${path}`;
}

function authorize(caller: Caller, access: Access): void {
  if (caller.type === 'client' || access === 'any') return;
  if (access === 'machine') throw insufficientScope('admin');
  if (!caller.scopes.has(access)) throw insufficientScope(access);
}

/** What cannot be an id is not found, like an id that is not there. */
function parseParams(route: AnyRoute, params: unknown): Record<string, string> {
  if (!route.params) return {};
  const result = route.params.safeParse(params);
  if (!result.success) throw new Problem({ status: 404, title: 'Not Found' });
  return result.data;
}

function parseQuery(route: AnyRoute, ctx: Context): unknown {
  const invalid = (detail: string, errors?: ReturnType<typeof pointers>) =>
    new Problem({ status: 400, title: 'Bad Request', detail, errors });
  // Koa leaves what cannot be decoded as it is, or puts U+FFFD in its place.
  if (!isEncoded(ctx.querystring)) throw invalid('The query is not percent-encoded UTF-8.');
  const result = (route.query ?? z.strictObject({})).safeParse({ ...ctx.query });
  if (result.success) return result.data;
  throw invalid('The query is not valid.', pointers(result.error));
}

function isEncoded(querystring: string): boolean {
  try {
    decodeURIComponent(querystring);
    return true;
  } catch {
    return false;
  }
}

async function parseBody(route: AnyRoute, ctx: Context): Promise<unknown> {
  if (!route.body) return undefined;
  const isLeftOut = route.optionalBody && !hasBody(ctx);
  const result = route.body.safeParse(isLeftOut ? {} : await readJson(ctx));
  if (result.success) return result.data;
  throw new Problem({
    status: 422,
    title: 'Unprocessable Content',
    detail: 'The body is not valid.',
    errors: pointers(result.error),
  });
}

/** RFC 9112 §6.3 */
function hasBody(ctx: Context): boolean {
  return Number(ctx.headers['content-length'] ?? 0) > 0 || ctx.headers['transfer-encoding'] !== undefined;
}

async function readJson(ctx: Context): Promise<unknown> {
  if (!ctx.is('application/json')) {
    ctx.req.resume();
    throw new Problem({
      status: 400,
      title: 'Bad Request',
      detail: 'The body must be application/json.',
    });
  }
  try {
    return JSON.parse(await readBody(ctx.req, policy.adminRequestBodyLimit));
  } catch (error) {
    if (error instanceof BodyError) {
      const title = error.status === 413 ? 'Content Too Large' : 'Bad Request';
      throw new Problem({ status: error.status, title, detail: error.message });
    }
    if (error instanceof SyntaxError)
      throw new Problem({ status: 400, title: 'Bad Request', detail: 'The body is not JSON.' });
    throw error;
  }
}

/** RFC 6901 pointers, with a text that says what is wanted and never what was sent. */
function pointers(error: z.ZodError): { pointer: string; detail: string }[] {
  return error.issues.flatMap((issue) => {
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => ({
        // A name so long is none, and may be a secret in the wrong place: it is not repeated.
        pointer: pointer(key.length <= 32 ? [...issue.path, key] : issue.path),
        detail: key.length <= 32 ? 'is not a known member' : 'has a member that is not known',
      }));
    }
    return [{ pointer: pointer(issue.path), detail: issue.message }];
  });
}

function pointer(path: readonly PropertyKey[]): string {
  return path
    .map((segment) => `/${String(segment).slice(0, 64).replaceAll('~', '~0').replaceAll('/', '~1')}`)
    .join('');
}
