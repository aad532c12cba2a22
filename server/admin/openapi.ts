import type { z } from 'zod';
import { createDocument } from 'zod-openapi';
import { type Access, type AnyRoute, jsonLines } from './route.ts';
import { problemSchema } from './schemas.ts';

const problemTitles: Record<number, string> = {
  400: 'No JSON, or a bad query',
  401: 'No access token, or one that is not valid here',
  403: 'A scope is missing',
  404: 'Not there, or not for the caller to see',
  409: 'Conflict with the present state',
  413: 'The body is too large',
  422: 'The body does not validate',
  429: 'Too many writes of this caller: `Retry-After` says when there is room again',
  503: 'The database is out of reach, or the server is busy: `Retry-After` says when to try again',
};

/** OpenAPI 3.1, from the routes themselves. */
export function createOpenApiDocument(routes: readonly AnyRoute[], issuer: string) {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const path = `/admin${route.path}`;
    paths[path] = { ...paths[path], [route.method]: operation(route) };
  }
  return createDocument({
    openapi: '3.1.0',
    info: { title: 'Platform Tokens admin API', version: '1.0.0' },
    servers: [{ url: issuer }],
    security: [{ bearer: [] }],
    paths: paths as never,
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT (RFC 9068)' } },
    },
  });
}

function operation(route: AnyRoute) {
  const { status, description, schema, line, headers } = route.response;
  return {
    operationId: route.operationId,
    summary: route.summary,
    description: callers(route.access),
    requestParams: {
      ...(route.params ? { path: route.params as z.ZodObject } : {}),
      ...(route.query ? { query: route.query as z.ZodObject } : {}),
    },
    ...(route.body
      ? {
          requestBody: {
            required: !route.optionalBody,
            content: { 'application/json': { schema: route.body } },
          },
        }
      : {}),
    responses: {
      [status]: {
        description,
        ...(headers ? { headers } : {}),
        ...(schema
          ? {
              content: {
                'application/json': { schema },
                ...(line ? { [jsonLines]: { schema: line } } : {}),
              },
            }
          : {}),
      },
      ...Object.fromEntries(errorStatuses(route).map((code) => [code, problem(code)])),
    },
  };
}

function callers(access: Access): string {
  if (access === 'machine') return 'Machine administrators.';
  return access === 'any' ? 'Any caller.' : `Scope \`admin\` or \`${access}\`.`;
}

function errorStatuses(route: AnyRoute): number[] {
  const body = route.body ? [413, 422] : [];
  const limited = route.method === 'get' ? [] : [429];
  const found = route.params || route.operationId === 'getMe' ? [404] : [];
  return [...new Set([400, ...body, 401, 403, ...found, ...(route.errors ?? []), ...limited, 503])].sort(
    (a, b) => a - b,
  );
}

const field = (description: string, type = 'string') => ({ description, required: true, schema: { type } });
const retryAfter = field('RFC 9110 §10.2.3, in seconds.', 'integer');
const challenge = field('RFC 6750 §3; of a 401 with `resource_metadata` (RFC 9728 §5.1).');
const problemFields: Record<number, object> = {
  401: { 'WWW-Authenticate': challenge },
  403: { 'WWW-Authenticate': challenge },
  429: {
    'Retry-After': retryAfter,
    RateLimit: field('draft-ietf-httpapi-ratelimit-headers-11 §4.'),
    'RateLimit-Policy': field('draft-ietf-httpapi-ratelimit-headers-11 §3.'),
  },
  503: { 'Retry-After': retryAfter },
};

function problem(status: number) {
  const headers = problemFields[status];
  return {
    description: problemTitles[status] ?? 'Error',
    ...(headers ? { headers } : {}),
    content: { 'application/problem+json': { schema: problemSchema } },
  };
}
