import type { Keeper } from './keeper.ts';
import type { FetchLike, Settings } from './options.ts';

/** As in the Fetch standard. */
const redirectLimit = 20;
const redirectStatuses = new Set([301, 302, 303, 307, 308]);

interface Described {
  readonly url: URL;
  readonly method: string;
  readonly headers: Headers;
  readonly redirect: NonNullable<RequestInit['redirect']>;
  readonly signal: AbortSignal | undefined;
  /** Whether the body, if there is one, can be sent a second time. */
  readonly repeatable: boolean;
}

interface Sent {
  readonly response: Response;
  /** Whether it was the access token's own origin that answered. */
  readonly authorized: boolean;
}

/**
 * `fetch` with `Authorization: Bearer` for the origins that were allowed, and as it is for all others. A 401 is answered
 * once with a fresh token, where the body can be sent again.
 *
 * @throws {TypeError} no origin was allowed
 */
export function createAuthorizedFetch({ fetch, origins }: Settings, keeper: Keeper): FetchLike {
  return async (given, options = {}) => {
    if (origins.size === 0) throw new TypeError('origins must name where access tokens may be sent');
    const request = describe(given, options);
    // Credentials that the caller chose are the caller's.
    if (!origins.has(request.url.origin) || request.headers.has('authorization'))
      return fetch(given, options);
    // As they are now: while a token is waited for, the caller may write its next request into them.
    const input = isRequest(given) ? given : String(given);
    const init = { ...options };
    const { accessToken } = await keeper.get(request.signal);
    const first = await send(fetch, input, init, request, accessToken);
    if (first.response.status !== 401 || !first.authorized) return first.response;
    keeper.invalidate(accessToken);
    if (!request.repeatable) return first.response;
    const fresh = await keeper.get(request.signal);
    // The same again: so many fresh ones were refused lately that another would be too.
    if (fresh.accessToken === accessToken) return first.response;
    discard(first.response);
    return (await send(fetch, input, init, request, fresh.accessToken)).response;
  };
}

/** Follows redirects itself: that a token stays at home must not depend on which `fetch` this is. */
async function send(
  fetch: FetchLike,
  input: string | Request,
  init: RequestInit,
  request: Described,
  accessToken: string,
): Promise<Sent> {
  const headers = new Headers(request.headers);
  headers.set('authorization', `Bearer ${accessToken}`);
  if (request.redirect !== 'follow')
    return { response: await fetch(input, { ...init, headers }), authorized: true };
  let { url, method } = request;
  let authorized = true;
  let response = await fetch(input, { ...init, headers, redirect: 'manual' });
  for (let hops = 1; ; hops += 1) {
    if (response.type === 'opaqueredirect') throw new TypeError('this runtime hides where a redirect leads');
    const location = response.headers.get('location');
    if (!redirectStatuses.has(response.status) || location === null) return { response, authorized };
    discard(response);
    if (hops > redirectLimit) throw new TypeError('too many redirects');
    const next = redirected(response.status, method);
    if (next.keepsBody && !request.repeatable)
      throw new TypeError('a redirect asks for a body that cannot be sent again');
    url = new URL(location, url);
    // Once away, always away: what comes back from there was not asked for by the caller.
    authorized &&= url.origin === request.url.origin;
    for (const name of authorized ? [] : credentials) headers.delete(name);
    for (const name of next.keepsBody ? [] : bodyHeaders) headers.delete(name);
    method = next.method;
    response = await fetch(url, {
      ...init,
      method,
      headers,
      redirect: 'manual',
      signal: request.signal ?? null,
      ...(next.keepsBody ? {} : { body: null }),
    });
  }
}

const credentials = ['authorization', 'proxy-authorization', 'cookie'];
const bodyHeaders = ['content-encoding', 'content-language', 'content-location', 'content-type'];

/** The Fetch standard, HTTP-redirect fetch, step 12. */
function redirected(status: number, method: string): { method: string; keepsBody: boolean } {
  const toGet =
    (status === 303 && method !== 'GET' && method !== 'HEAD') ||
    ((status === 301 || status === 302) && method === 'POST');
  return toGet ? { method: 'GET', keepsBody: false } : { method, keepsBody: true };
}

function describe(input: string | URL | Request, init: RequestInit): Described {
  const request = isRequest(input) ? input : undefined;
  return {
    url: new URL(request ? request.url : String(input)),
    method: (init.method ?? request?.method ?? 'GET').toUpperCase(),
    headers: new Headers(init.headers ?? request?.headers),
    redirect: init.redirect ?? request?.redirect ?? 'follow',
    signal: init.signal ?? request?.signal,
    repeatable: isRepeatable(init.body ?? request?.body),
  };
}

/** By its shape: a fetch of a library comes with a Request of its own. */
const isRequest = (input: string | URL | Request): input is Request =>
  typeof input !== 'string' && !(input instanceof URL);

/** Streams are read once; a Request's body is one. */
function isRepeatable(body: unknown): boolean {
  if (body === undefined || body === null || typeof body === 'string') return true;
  if (body instanceof URLSearchParams || body instanceof Blob || body instanceof FormData) return true;
  return body instanceof ArrayBuffer || ArrayBuffer.isView(body);
}

function discard(response: Response): void {
  response.body?.cancel().catch(() => {});
}
