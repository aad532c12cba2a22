import { createHash, randomBytes } from 'node:crypto';
import type { Harness } from './harness.ts';

interface Cookie {
  readonly value: string;
  readonly path: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** Where it leads, as a URL of the issuer. */
  readonly location: URL | undefined;
}

export type Browser = ReturnType<typeof createBrowser>;

/** A browser without scripts: keeps cookies by path, follows nothing by itself. Takes URLs of the issuer. */
export function createBrowser(
  harness: Pick<Harness, 'url' | 'issuer'>,
  defaults: Record<string, string> = {},
) {
  const jar = new Map<string, Cookie>();
  const origin = new URL(harness.issuer).origin;
  const realOrigin = new URL(harness.url).origin;

  async function request(target: string | URL, init: RequestInit = {}): Promise<Answer> {
    const url = new URL(target, origin);
    const cookies = [...jar.entries()].filter(([, { path }]) => url.pathname.startsWith(path));
    const response = await fetch(`${realOrigin}${url.pathname}${url.search}`, {
      redirect: 'manual',
      ...init,
      headers: {
        accept: 'text/html,application/xhtml+xml,*/*;q=0.8',
        ...defaults,
        ...(cookies.length
          ? { cookie: cookies.map(([name, { value }]) => `${name.split('|')[0]}=${value}`).join('; ') }
          : {}),
        ...(init.headers as Record<string, string>),
      },
    });
    for (const line of response.headers.getSetCookie()) {
      const [pair = '', ...attributes] = line.split('; ');
      const name = pair.slice(0, pair.indexOf('='));
      const value = pair.slice(pair.indexOf('=') + 1);
      const path = attributes.find((attribute) => /^path=/i.test(attribute))?.slice(5) ?? '/';
      if (value === '') jar.delete(`${name}|${path}`);
      else jar.set(`${name}|${path}`, { value, path });
    }
    const location = response.headers.get('location');
    return {
      status: response.status,
      headers: response.headers,
      text: await response.text(),
      location: location === null ? undefined : new URL(location, url),
    };
  }

  return {
    jar,
    get: (target: string | URL, headers: Record<string, string> = {}) => request(target, { headers }),
    post: (
      target: string | URL,
      form: Record<string, string> | string | Uint8Array<ArrayBuffer>,
      headers: Record<string, string> = {},
    ) =>
      request(target, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
        body:
          typeof form === 'string' || form instanceof Uint8Array
            ? form
            : new URLSearchParams(form).toString(),
      }),
    cookie: (name: string) => [...jar.entries()].find(([key]) => key.startsWith(`${name}|`))?.[1].value,
  };
}

export interface AuthorizationRequest {
  readonly url: string;
  readonly verifier: string;
}

/** An authorization request of the dashboard, with changes; `undefined` leaves a parameter out. */
export function authorizationRequest(
  { issuer }: Pick<Harness, 'issuer'>,
  change: Record<string, string | undefined> = {},
): AuthorizationRequest {
  const verifier = randomBytes(32).toString('base64url');
  const parameters = {
    client_id: 'dashboard',
    response_type: 'code',
    redirect_uri: `${issuer}/dashboard/callback`,
    scope: 'openid tokens:read tokens:write',
    state: 'a-state',
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
    ...change,
  };
  const present = Object.entries(parameters).filter(
    (pair): pair is [string, string] => pair[1] !== undefined,
  );
  return { url: `${issuer}/oauth/authorize?${new URLSearchParams(present)}`, verifier };
}

/** Opens the sign-in page. @returns its URL and what it says */
export async function openSignIn(
  browser: Browser,
  request: AuthorizationRequest,
): Promise<{ url: URL; page: Answer }> {
  const { location } = await browser.get(request.url);
  if (!location?.pathname.includes('/oauth/sign-in/')) throw new Error(`no sign-in page: ${location}`);
  return { url: location, page: await browser.get(location) };
}

/** The redirects after a form was accepted, up to the client's redirect_uri. */
export async function followToClient(
  browser: Browser,
  answer: Answer,
  { issuer }: Pick<Harness, 'issuer'>,
): Promise<URL> {
  let current = answer;
  for (let hops = 0; hops < 5; hops += 1) {
    if (!current.location) throw new Error(`no redirect: ${current.status} ${current.text}`);
    if (!current.location.href.startsWith(`${issuer}/oauth/`)) return current.location;
    current = await browser.get(current.location);
  }
  throw new Error('too many redirects');
}

/** The whole walk to the client's redirect_uri. */
export async function signIn(
  harness: Harness,
  browser: Browser,
  { email, password }: { email: string; password: string },
  request = authorizationRequest(harness),
): Promise<{ callback: URL; code: string; verifier: string }> {
  const { url } = await openSignIn(browser, request);
  const callback = await followToClient(browser, await browser.post(url, { email, password }), harness);
  return { callback, code: callback.searchParams.get('code') ?? '', verifier: request.verifier };
}
