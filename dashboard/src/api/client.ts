import createClient from 'openapi-fetch';
import { AuthorizationFailed } from '../session/authorization.ts';
import type { Session } from '../session/session.ts';
import { issuer } from '../settings.ts';
import type { components, paths } from './schema.d.ts';

type Schemas = components['schemas'];
export type Token = Schemas['Token'];
export type CreatedToken = Schemas['CreatedToken'];
export type Service = Schemas['Service'];
export type Member = Schemas['Member'];
export type Me = Schemas['Me'];
export type AuditEvent = Schemas['AuditEvent'];
export type Problem = Schemas['Problem'];

/** The server refused (RFC 9457). */
export class Refused extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.title);
    this.problem = problem;
  }

  get status(): number {
    return this.problem.status;
  }

  /** Last part of the problem's type: `token-limit-reached`, … */
  get kind(): string {
    return this.problem.type.split('/').at(-1) ?? '';
  }
}

/** No answer, or none from the product: the network, a proxy, the server or its database is away. */
export class Unreachable extends Error {}

const timeoutMs = 30_000;
const gateway = new Set([502, 503, 504]);

export type Api = ReturnType<typeof createApi>;

/**
 * The admin API, typed by its OpenAPI document.
 * @param onReach told after every attempt whether the server was there
 */
export function createApi(session: Session, onReach: (reachable: boolean) => void) {
  async function send(request: Request, accessToken: string): Promise<Response> {
    const headers = new Headers(request.headers);
    headers.set('Authorization', `Bearer ${accessToken}`);
    const signal = AbortSignal.any([request.signal, AbortSignal.timeout(timeoutMs)]);
    return fetch(new Request(request, { headers, signal, cache: 'no-store', credentials: 'omit' }));
  }

  async function attempt(request: Request): Promise<Response> {
    const again = request.clone();
    const own = session.begin();
    const accessToken = await own.accessToken();
    const response = await send(request, accessToken);
    // The grant is gone, or the token too old: with a new one, once. A refused request has done nothing.
    if (response.status !== 401) return response;
    return send(again, await own.accessTokenAfter(accessToken));
  }

  async function fetchAuthorized(request: Request): Promise<Response> {
    try {
      const response = await attempt(request);
      if (gateway.has(response.status)) throw new Unreachable(`status ${response.status}`);
      // A page of a proxy or of a network's own sign-in, in place of the API's answer.
      const isData = response.status === 204 || /json/.test(response.headers.get('Content-Type') ?? '');
      if (!isData) throw new Unreachable('no answer of the API');
      onReach(true);
      return response;
    } catch (cause) {
      // Nobody waits for it any longer.
      if (request.signal.aborted) throw cause;
      onReach(false);
      if (cause instanceof Unreachable || cause instanceof AuthorizationFailed) throw cause;
      throw new Unreachable('no answer', { cause });
    }
  }

  return createClient<paths>({ baseUrl: issuer, fetch: fetchAuthorized });
}

/** @throws Refused for an answer that is no success */
export function unwrap<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  const { data, error, response } = answer;
  if (response.ok) return data as T;
  throw new Refused(
    isProblem(error) ? error : { type: '', title: response.statusText, status: response.status },
  );
}

function isProblem(value: unknown): value is Problem {
  return typeof value === 'object' && value !== null && 'type' in value && 'status' in value;
}

/** Whether the same request may succeed a moment later: there was no answer. */
export const isPassing = (error: unknown): boolean =>
  error instanceof Unreachable || error instanceof AuthorizationFailed;
