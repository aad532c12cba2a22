import { type Clock, systemClock } from './clock.ts';
import type { PlatformTokenError } from './errors.ts';

export type FetchLike = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

interface CommonOptions {
  /** The secret, or a function that reads it anew for each exchange. White space around it is left out. */
  readonly platformToken: string | (() => string | Promise<string>);
  /** A subset of the platform token's scopes, separated by spaces. Default: all of them. */
  readonly scope?: string | undefined;
  /** `subject_token_type` of RFC 8693. Default: none is sent, and the server takes its own default. */
  readonly subjectTokenType?: string | undefined;
  /** The origins to which `fetch` sends access tokens, such as `https://api.example.com`. */
  readonly origins?: readonly string[] | undefined;
  /** How long a call waits in all for an access token while faults pass. Default: 60 000. */
  readonly maxWaitMs?: number | undefined;
  /** How long one exchange may take, to the last byte. Default: 10 000. */
  readonly requestTimeoutMs?: number | undefined;
  /** How long a refused platform token is not sent again. Default: 60 000. */
  readonly deadTokenHoldMs?: number | undefined;
  /** Told when a renewal failed while the access token in hand still holds, so that no caller sees it. */
  readonly onRenewalFailed?: ((error: PlatformTokenError | TypeError) => void) | undefined;
  readonly fetch?: FetchLike | undefined;
  readonly clock?: Clock | undefined;
  /** In [0, 1). Default: `Math.random`. */
  readonly random?: (() => number) | undefined;
}

export type TokenSourceOptions = CommonOptions &
  (
    | {
        /** The issuer's URL: the token endpoint is `/oauth/token` below it. */
        readonly issuer: string;
        readonly tokenEndpoint?: undefined;
      }
    | { readonly tokenEndpoint: string; readonly issuer?: undefined }
  );

export interface Settings {
  readonly tokenEndpoint: string;
  /** What it gives is still to be checked. */
  readonly readPlatformToken: () => Promise<unknown>;
  readonly scope: string | undefined;
  readonly subjectTokenType: string | undefined;
  readonly origins: ReadonlySet<string>;
  readonly maxWaitMs: number;
  readonly requestTimeoutMs: number;
  readonly deadTokenHoldMs: number;
  readonly onRenewalFailed: (error: PlatformTokenError | TypeError) => void;
  readonly fetch: FetchLike;
  readonly clock: Clock;
  readonly random: () => number;
}

const known = new Set([
  'issuer',
  'tokenEndpoint',
  'platformToken',
  'scope',
  'subjectTokenType',
  'origins',
  'maxWaitMs',
  'requestTimeoutMs',
  'deadTokenHoldMs',
  'onRenewalFailed',
  'fetch',
  'clock',
  'random',
]);

/** @throws {TypeError} which names the option that is wrong, and never its value: it may be the secret */
export function readOptions(options: TokenSourceOptions): Settings {
  if (!Object.keys(options).every((name) => known.has(name)))
    throw new TypeError(`there is an option that is none of ${[...known].join(', ')}`);
  const { platformToken, scope, subjectTokenType } = options;
  if (typeof platformToken !== 'string' && typeof platformToken !== 'function')
    throw new TypeError('platformToken must be a string or a function');
  if (typeof platformToken === 'string') checkPlatformToken(platformToken);
  for (const [name, value] of Object.entries({ scope, subjectTokenType })) {
    if (value !== undefined && typeof value !== 'string') throw new TypeError(`${name} must be a string`);
  }
  return {
    tokenEndpoint: readEndpoint(options),
    readPlatformToken: async () => (typeof platformToken === 'string' ? platformToken : platformToken()),
    scope,
    subjectTokenType,
    origins: readOrigins(options.origins ?? []),
    maxWaitMs: readDuration('maxWaitMs', options.maxWaitMs, 60_000),
    requestTimeoutMs: readDuration('requestTimeoutMs', options.requestTimeoutMs, 10_000),
    deadTokenHoldMs: readDuration('deadTokenHoldMs', options.deadTokenHoldMs, 60_000),
    onRenewalFailed: options.onRenewalFailed ?? (() => {}),
    fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    clock: options.clock ?? systemClock,
    random: options.random ?? Math.random,
  };
}

/** @throws {TypeError} it is no token at all */
export function checkPlatformToken(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError('platformToken did not give a string');
  const token = value.trim();
  if (token === '') throw new TypeError('platformToken is empty');
  return token;
}

function readEndpoint({ issuer, tokenEndpoint }: TokenSourceOptions): string {
  if ((issuer === undefined) === (tokenEndpoint === undefined))
    throw new TypeError('either issuer or tokenEndpoint is needed, and not both');
  if (tokenEndpoint !== undefined) return readUrl('tokenEndpoint', tokenEndpoint).href;
  const url = readUrl('issuer', issuer);
  // RFC 8414 §2: an issuer has neither.
  if (url.search !== '') throw new TypeError('issuer must have no query');
  return `${url.href.replace(/\/$/, '')}/oauth/token`;
}

function readOrigins(origins: readonly string[]): ReadonlySet<string> {
  if (!Array.isArray(origins)) throw new TypeError('origins must be an array');
  return new Set(
    origins.map((value) => {
      const { origin, pathname, search } = readUrl('origins', value);
      // A path would look as if it narrowed something.
      if (pathname !== '/' || search !== '') throw new TypeError('origins must have no path and no query');
      return origin;
    }),
  );
}

/** A URL that a secret may be sent to: TLS, or this very machine. */
function readUrl(name: string, value: unknown): URL {
  const url = typeof value === 'string' ? parseUrl(value) : undefined;
  if (!url) throw new TypeError(`${name} must be an absolute URL`);
  if (url.username !== '' || url.password !== '' || url.hash !== '')
    throw new TypeError(`${name} must have no credentials and no fragment`);
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isLoopback(url.hostname)))
    throw new TypeError(`${name} must be https:, or http: on a loopback address`);
  return url;
}

function parseUrl(value: string): URL | undefined {
  try {
    return new URL(value);
  } catch {
    return undefined;
  }
}

function isLoopback(hostname: string): boolean {
  return /^(localhost|(.+\.)?localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname);
}

function readDuration(name: string, value: number | undefined, otherwise: number): number {
  if (value === undefined) return otherwise;
  // Timers take no more than 2^31 - 1.
  if (typeof value !== 'number' || !(value > 0 && value <= 2_147_483_647))
    throw new TypeError(`${name} must be a number of milliseconds, above 0`);
  return value;
}
