import { type Algorithm, supportedAlgorithms } from './keys.ts';

export interface VerifierOptions {
  /** The issuer, as it is in `iss`. */
  readonly issuer: string;
  /** The audience of this API, which `aud` must have. */
  readonly audience: string;
  /** Scopes that every token must have. */
  readonly requiredScopes?: readonly string[];
  /** URL of this API's metadata (RFC 9728), which challenges then name. */
  readonly resourceMetadata?: string;
  /** All that are supported, unless said otherwise. */
  readonly algorithms?: readonly Algorithm[];
  /** How far the clocks may be apart, in seconds; 60. */
  readonly clockTolerance?: number;
  /** `ISSUER/oauth/jwks`, unless said otherwise. */
  readonly jwksUri?: string;
  /**
   * `check` looks up the status of tokens that name a list, `require` refuses those that name none, `ignore` looks at
   * none: then a revoked token is good until it expires.
   */
  readonly statusLists?: 'check' | 'require' | 'ignore';
  /**
   * For a token whose status cannot be found out because the issuer is away: `reject` answers 503, `accept` lets it in
   * unless it was revoked when last seen. Nothing lets in a token whose signature cannot be verified.
   */
  readonly onIssuerUnavailable?: 'reject' | 'accept';
  /** How long keys may be used while the issuer is away, in seconds; 24 hours. Lists: until their `exp`. */
  readonly maxStale?: number;
  /** Between two requests for unknown `kid`s, in seconds; 5. It is how long strangers can keep a new key unknown. */
  readonly unknownKeyCooldown?: number;
  /** How long one request to the issuer may take, in milliseconds; 5,000. */
  readonly timeout?: number;
  /** Status lists that are kept; 64. */
  readonly statusListLimit?: number;
  /** Longest status list, in bytes after decompression; 1 MiB. */
  readonly statusListSizeLimit?: number;
  /** Longest access token, in characters; 8,192. */
  readonly tokenSizeLimit?: number;
  /** Allows an issuer on plain HTTP that is not this machine. */
  readonly allowHttp?: boolean;
  readonly fetch?: typeof fetch;
  /** Milliseconds since the epoch. */
  readonly clock?: () => number;
}

export interface VerifyOptions {
  /** Scopes that this request needs, besides the verifier's own. */
  readonly requiredScopes?: readonly string[];
}

/** What the options say, with the defaults of those that are left out. */
export interface Settings extends Required<Omit<VerifierOptions, 'resourceMetadata' | 'allowHttp'>> {
  readonly resourceMetadata: string | undefined;
}

const known = new Set([
  'issuer',
  'audience',
  'requiredScopes',
  'resourceMetadata',
  'algorithms',
  'clockTolerance',
  'jwksUri',
  'statusLists',
  'onIssuerUnavailable',
  'maxStale',
  'unknownKeyCooldown',
  'timeout',
  'statusListLimit',
  'statusListSizeLimit',
  'tokenSizeLimit',
  'allowHttp',
  'fetch',
  'clock',
] satisfies (keyof VerifierOptions)[]);

/**
 * Types are no guard in JavaScript, and what is misspelt here would let tokens in that were to be refused.
 * @throws {TypeError}
 */
export function readOptions(options: VerifierOptions): Settings {
  checkNames(options, known);
  const { issuer, audience, resourceMetadata, algorithms = supportedAlgorithms } = options;
  const { jwksUri = `${issuer}/oauth/jwks`, allowHttp = false } = options;
  checkUrl('issuer', issuer, allowHttp);
  checkUrl('jwksUri', jwksUri, allowHttp);
  if (typeof audience !== 'string' || audience === '') throw new TypeError('audience is missing');
  if (algorithms.length === 0 || !algorithms.every((alg) => supportedAlgorithms.includes(alg))) {
    throw new TypeError(`algorithms must be of ${supportedAlgorithms.join(', ')}`);
  }
  return {
    issuer,
    audience,
    resourceMetadata,
    algorithms,
    jwksUri,
    requiredScopes: readScopes(options.requiredScopes),
    statusLists: readWord('statusLists', options.statusLists, ['check', 'require', 'ignore']),
    onIssuerUnavailable: readWord('onIssuerUnavailable', options.onIssuerUnavailable, ['reject', 'accept']),
    clockTolerance: readNumber('clockTolerance', options.clockTolerance, 60),
    maxStale: readNumber('maxStale', options.maxStale, 24 * 60 * 60),
    unknownKeyCooldown: readNumber('unknownKeyCooldown', options.unknownKeyCooldown, 5),
    timeout: readNumber('timeout', options.timeout, 5_000),
    statusListLimit: readNumber('statusListLimit', options.statusListLimit, 64),
    statusListSizeLimit: readNumber('statusListSizeLimit', options.statusListSizeLimit, 1024 * 1024),
    tokenSizeLimit: readNumber('tokenSizeLimit', options.tokenSizeLimit, 8_192),
    // Looked up at each call: what instruments fetch may do so later.
    fetch: (...args) => (options.fetch ?? globalThis.fetch)(...args),
    clock: options.clock ?? Date.now,
  };
}

/** @returns the scopes @throws {TypeError} */
export function readVerifyOptions(options: VerifyOptions): readonly string[] {
  checkNames(options, new Set(['requiredScopes']));
  return readScopes(options.requiredScopes);
}

function checkNames(options: object, names: ReadonlySet<string>): void {
  if (Object.keys(options).every((name) => names.has(name))) return;
  throw new TypeError(`there is an option that is none of ${[...names].join(', ')}`);
}

function readScopes(scopes: readonly string[] = []): readonly string[] {
  // RFC 6749 §3.3. A text of several is none that any token has.
  if (Array.isArray(scopes) && scopes.every((one) => /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(one))) return scopes;
  throw new TypeError('requiredScopes must be an array of scopes');
}

function readWord<T extends string>(name: string, value: T | undefined, words: readonly [T, ...T[]]): T {
  if (value === undefined) return words[0];
  if (!words.includes(value)) throw new TypeError(`${name} must be one of ${words.join(', ')}`);
  return value;
}

/** Neither NaN, by which nothing is ever too old, nor a text, to which is added by writing behind it. */
function readNumber(name: string, value: number | undefined, otherwise: number): number {
  if (value === undefined) return otherwise;
  if (!Number.isFinite(value) || value < 0) throw new TypeError(`${name} must be a number, from 0`);
  return value;
}

/** Keys that come over plain HTTP are anybody's. */
function checkUrl(name: string, value: string, allowHttp: boolean): void {
  if (!URL.canParse(value)) throw new TypeError(`${name} is no URL`);
  const url = new URL(value);
  const local = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
  if (url.protocol === 'https:' || (url.protocol === 'http:' && (local || allowHttp === true))) return;
  throw new TypeError(`${name} must be https:`);
}
