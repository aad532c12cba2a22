import { resolve } from 'node:path';
import { host } from './host.ts';
import { clientIdPattern, type Limit, type LimitName, type Limits, policy } from './policy.ts';

export const signingAlgs = ['ES256', 'RS256', 'PS256', 'EdDSA'] as const;
export type SigningAlg = (typeof signingAlgs)[number];

export interface TracingConfig {
  /** Where traces go, by OTLP over HTTP. May hold credentials: never in a log. */
  readonly endpoint: string;
  readonly sampler: { readonly name: (typeof samplers)[number]; readonly ratio: number };
}

const samplers = [
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
  'always_on',
  'always_off',
  'traceidratio',
] as const;

export interface Config {
  readonly production: boolean;
  readonly host: string;
  readonly port: number;
  /** Without a trailing slash; may have a path. */
  readonly issuer: string;
  /** Absent: the embedded PostgreSQL in `dataDir`. */
  readonly databaseUrl: string | undefined;
  /** Absolute path. */
  readonly dataDir: string;
  /** 32-byte keys, the first encrypts, all decrypt. Empty: generated into `dataDir` (embedded only). */
  readonly keyEncryptionKeys: readonly Buffer[];
  readonly adminClientId: string;
  readonly adminClientSecret: string | undefined;
  readonly signingAlg: SigningAlg;
  /** From one signing key's first signature to the next one's. */
  readonly keyRotationDays: number;
  readonly tokenPrefix: string;
  readonly subjectTokenTypes: readonly string[];
  readonly trustProxy: boolean;
  readonly metricsToken: string | undefined;
  readonly rateLimits: boolean;
  readonly limits: Limits;
  /** Absent: no traces, and nothing of OpenTelemetry is loaded. */
  readonly tracing: TracingConfig | undefined;
  /** Where the public keys are by which GitHub's leak reports are verified. */
  readonly githubSecretScanningKeysUrl: string;
  readonly logLevel: string;
  /** Processes that serve; one is the whole server. */
  readonly workers: number;
  readonly migrateOnStart: boolean;
  /** Seconds between being told to stop and taking no new connection. */
  readonly shutdownDelay: number;
}

/** Every fault of the environment at once: one line each, naming the variable and never its value. */
export class ConfigError extends Error {
  readonly faults: readonly string[];
  constructor(faults: readonly string[]) {
    super(`invalid configuration:\n${faults.map((fault) => `  ${fault}`).join('\n')}`);
    this.name = 'ConfigError';
    this.faults = faults;
  }
}

const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'];
const defaultSubjectTokenTypes =
  'urn:platform:params:oauth:token-type:api_token,urn:phrase:params:oauth:token-type:api_token';
const absoluteUri = /^[a-z][a-z0-9+.-]*:[\x21\x23-\x5b\x5d-\x7e]+$/i;

/**
 * Reads the environment (contract §2).
 * @throws ConfigError with every fault found, not only the first
 */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const faults: string[] = [];
  // An empty variable is an unset one: compose files and CI systems cannot unset.
  const get = (name: string) => env[name] || undefined;
  const fault = (name: string, problem: string) => void faults.push(`${name} ${problem}`);

  const oneOf = <T extends string>(name: string, values: readonly T[], fallback: T): T => {
    const value = get(name) ?? fallback;
    if ((values as readonly string[]).includes(value)) return value as T;
    fault(name, `must be one of ${values.join(', ')}`);
    return fallback;
  };
  const boolean = (name: string) => oneOf(name, ['true', 'false'], 'false') === 'true';

  const port = readPort(get('PORT'), fault);
  const database = readDatabase(env, fault);
  const { production } = database;
  const rateLimits = oneOf('RATE_LIMITS', ['on', 'off'], 'on') === 'on';
  if (production && !rateLimits) fault('RATE_LIMITS', 'must not be off in production');

  const config: Config = {
    ...database,
    host: get('HOST') ?? (production ? '0.0.0.0' : '127.0.0.1'),
    port,
    issuer: readIssuer(get('ISSUER') ?? defaultIssuer(port, fault), production, fault),
    keyEncryptionKeys: readKeys(get('KEY_ENCRYPTION_KEY'), get('DATABASE_URL') !== undefined, fault),
    adminClientId: readAdminClientId(get('ADMIN_CLIENT_ID'), fault),
    adminClientSecret: readAdminSecret(get('ADMIN_CLIENT_SECRET'), fault),
    signingAlg: oneOf('SIGNING_ALG', signingAlgs, 'ES256'),
    keyRotationDays: readRotationDays(get('KEY_ROTATION_DAYS'), fault),
    tokenPrefix: readTokenPrefix(get('TOKEN_PREFIX'), fault),
    subjectTokenTypes: readSubjectTokenTypes(get('SUBJECT_TOKEN_TYPES'), fault),
    trustProxy: boolean('TRUST_PROXY'),
    metricsToken: readMetricsToken(get('METRICS_TOKEN'), fault),
    rateLimits,
    limits: readLimits(get('RATE_LIMIT_OVERRIDES'), fault),
    tracing: readTracing(get, fault),
    githubSecretScanningKeysUrl: readKeysUrl(get('GITHUB_SECRET_SCANNING_KEYS_URL'), fault),
    logLevel: oneOf('LOG_LEVEL', logLevels, 'info'),
    workers: readWorkers(get('WORKERS'), fault),
    migrateOnStart: boolean('MIGRATE_ON_START'),
    shutdownDelay: readShutdownDelay(get('SHUTDOWN_DELAY_SECONDS'), fault),
  };
  if (faults.length > 0) throw new ConfigError(faults);
  Object.freeze(config.keyEncryptionKeys);
  Object.freeze(config.subjectTokenTypes);
  return Object.freeze(config);
}

/**
 * Where the database is, for what needs nothing else.
 * @throws ConfigError
 */
export function readDatabaseConfig(env: NodeJS.ProcessEnv): DatabaseConfig {
  const faults: string[] = [];
  const config = readDatabase(env, (name, problem) => void faults.push(`${name} ${problem}`));
  if (faults.length > 0) throw new ConfigError(faults);
  return config;
}

type DatabaseConfig = Pick<Config, 'production' | 'databaseUrl' | 'dataDir'>;

function readDatabase(env: NodeJS.ProcessEnv, fault: Fault): DatabaseConfig {
  const production = env.NODE_ENV === 'production';
  if (production && !env.DATABASE_URL) fault('DATABASE_URL', 'is required in production');
  return {
    production,
    databaseUrl: readDatabaseUrl(env.DATABASE_URL || undefined, fault),
    dataDir: resolve(env.DATA_DIR || './.data'),
  };
}

type Fault = (name: string, problem: string) => void;

function readPort(value: string | undefined, fault: Fault): number {
  if (value === undefined) return 3000;
  const port = Number(value);
  if (/^\d{1,5}$/.test(value) && port <= 65535) return port;
  fault('PORT', 'must be a number from 0 to 65535');
  return 3000;
}

function readRotationDays(value: string | undefined, fault: Fault): number {
  if (value === undefined) return 90;
  const days = Number(value);
  if (/^\d{1,4}$/.test(value) && days >= 1 && days <= 3650) return days;
  fault('KEY_ROTATION_DAYS', 'must be a number from 1 to 3650');
  return 90;
}

function readShutdownDelay(value: string | undefined, fault: Fault): number {
  if (value === undefined) return 1;
  const seconds = Number(value);
  if (/^\d{1,2}$/.test(value) && seconds <= 30) return seconds;
  fault('SHUTDOWN_DELAY_SECONDS', 'must be a number from 0 to 30');
  return 1;
}

function readWorkers(value: string | undefined, fault: Fault): number {
  if (value === undefined) return 1;
  if (value === 'auto') return host.cores;
  if (/^[1-9]\d{0,2}$/.test(value)) return Number(value);
  fault('WORKERS', 'must be a number from 1 to 999, or auto');
  return 1;
}

function defaultIssuer(port: number, fault: Fault): string {
  if (port === 0) fault('ISSUER', 'is required with PORT=0');
  return new URL(`http://localhost:${port}`).origin;
}

function readIssuer(value: string, production: boolean, fault: Fault): string {
  // RFC 8414 §2: no query, no fragment. Credentials and trailing slashes would make two spellings of one issuer.
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (
    !url ||
    !/^https?:$/.test(url.protocol) ||
    url.search ||
    url.hash ||
    url.username ||
    /[?#]/.test(value)
  ) {
    fault('ISSUER', 'must be an http or https URL without query, fragment or credentials');
    return 'http://invalid';
  }
  if (production && url.protocol !== 'https:') fault('ISSUER', 'must be https in production');
  const canonical = `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
  if (value !== canonical)
    fault('ISSUER', 'must be written without a trailing slash, default port or capitals in the host');
  return canonical;
}

function readDatabaseUrl(value: string | undefined, fault: Fault): string | undefined {
  if (value === undefined) return undefined;
  if (URL.canParse(value) && /^postgres(ql)?:$/.test(new URL(value).protocol)) return value;
  fault('DATABASE_URL', 'must be a postgres:// URL');
  return undefined;
}

function readKeys(value: string | undefined, required: boolean, fault: Fault): Buffer[] {
  if (value === undefined) {
    if (required) fault('KEY_ENCRYPTION_KEY', 'is required with DATABASE_URL (32 bytes as base64url)');
    return [];
  }
  const parts = value.split(',').map((part) => part.trim());
  const keys = parts
    .filter((part) => /^[A-Za-z0-9_-]{43}$/.test(part))
    .map((part) => Buffer.from(part, 'base64url'));
  if (keys.length !== parts.length) {
    fault(
      'KEY_ENCRYPTION_KEY',
      'must be one or more 32-byte keys in base64url (43 characters), comma-separated',
    );
  }
  return keys;
}

function readAdminClientId(value: string | undefined, fault: Fault): string {
  if (value === undefined) return 'admin';
  if (!clientIdPattern.test(value)) fault('ADMIN_CLIENT_ID', 'must be 1 to 64 of A-Z a-z 0-9 . _ -');
  if (value === 'platform-tokens' || value === 'dashboard')
    fault('ADMIN_CLIENT_ID', 'is the name of a built-in client');
  return value;
}

function readAdminSecret(value: string | undefined, fault: Fault): string | undefined {
  if (value === undefined) return undefined;
  if (value.length < policy.minimumAdminSecretLength) {
    fault('ADMIN_CLIENT_SECRET', `must have at least ${policy.minimumAdminSecretLength} characters`);
  } else if (!/^[\x20-\x7e]{1,512}$/.test(value)) {
    // RFC 6749 appendix A.2: client_secret = *VSCHAR
    fault('ADMIN_CLIENT_SECRET', 'must be printable ASCII of at most 512 characters');
  }
  return value;
}

function readTokenPrefix(value: string | undefined, fault: Fault): string {
  if (value === undefined) return 'ptk';
  if (!/^[a-z][a-z0-9]{0,15}$/.test(value)) {
    fault('TOKEN_PREFIX', 'must be 1 to 16 lower-case letters and digits, beginning with a letter');
  }
  return value;
}

function readKeysUrl(value: string | undefined, fault: Fault): string {
  if (value === undefined) return 'https://api.github.com/meta/public_keys/secret_scanning';
  const url = URL.canParse(value) ? new URL(value) : undefined;
  const loopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(url?.hostname ?? '');
  const secure = url?.protocol === 'https:' || (url?.protocol === 'http:' && loopback);
  if (!url || !secure || url.username || url.password || url.hash) {
    fault(
      'GITHUB_SECRET_SCANNING_KEYS_URL',
      'must be an https URL without credentials or fragment; http on a loopback address only',
    );
  }
  return value;
}

/** `name=points/seconds`, comma-separated; what is not named stays as it is. */
function readLimits(value: string | undefined, fault: Fault): Limits {
  const overrides = new Map<string, Limit>();
  const entries = value?.split(',').map((entry) => entry.trim()) ?? [];
  for (const [index, entry] of entries.entries()) {
    const wrong = (problem: string) => fault('RATE_LIMIT_OVERRIDES', `entry ${index + 1} ${problem}`);
    const [, name, points, window] = /^([a-z-]+)=([1-9]\d{0,6})\/([1-9]\d{0,4})$/.exec(entry) ?? [];
    if (name === undefined) wrong('must be name=points/seconds, up to 9999999/99999');
    else if (!Object.hasOwn(policy.limits, name))
      wrong(`must name one of ${Object.keys(policy.limits).join(' ')}`);
    else if (overrides.has(name)) wrong('names a limit again');
    else overrides.set(name, Object.freeze({ points: Number(points), window: Number(window) }));
  }
  return Object.freeze({ ...policy.limits, ...Object.fromEntries(overrides) } as Record<LimitName, Limit>);
}

/** RFC 6750 §2.1: what can stand behind `Bearer`. */
function readMetricsToken(value: string | undefined, fault: Fault): string | undefined {
  if (value !== undefined && !/^[A-Za-z0-9._~+/-]+=*$/.test(value))
    fault('METRICS_TOKEN', 'must be letters, digits and ._~+/- (RFC 6750)');
  return value;
}

/** The variables of OpenTelemetry that say whether, where and which; the SDK reads the others itself. */
function readTracing(get: (name: string) => string | undefined, fault: Fault): TracingConfig | undefined {
  if (get('OTEL_SDK_DISABLED')?.toLowerCase() === 'true' || get('OTEL_TRACES_EXPORTER') === 'none')
    return undefined;
  const own = 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT';
  const name = get(own) ? own : 'OTEL_EXPORTER_OTLP_ENDPOINT';
  const value = get(name);
  if (value === undefined) return undefined;
  if (!URL.canParse(value) || !/^https?:$/.test(new URL(value).protocol)) {
    fault(name, 'must be an http or https URL');
    return undefined;
  }
  for (const variable of ['OTEL_EXPORTER_OTLP_PROTOCOL', 'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL']) {
    if ((get(variable) ?? 'http/protobuf') !== 'http/protobuf') fault(variable, 'must be http/protobuf');
  }
  const sampler = samplers.find((one) => one === (get('OTEL_TRACES_SAMPLER') ?? samplers[0]));
  if (!sampler) fault('OTEL_TRACES_SAMPLER', `must be one of ${samplers.join(', ')}`);
  const ratio = Number(get('OTEL_TRACES_SAMPLER_ARG') ?? 1);
  if (!(ratio >= 0 && ratio <= 1)) fault('OTEL_TRACES_SAMPLER_ARG', 'must be a number from 0 to 1');
  const endpoint = name === own ? value : `${value.replace(/\/+$/, '')}/v1/traces`;
  return { endpoint, sampler: { name: sampler ?? samplers[0], ratio } };
}

function readSubjectTokenTypes(value: string | undefined, fault: Fault): string[] {
  const types = (value ?? defaultSubjectTokenTypes).split(',').map((type) => type.trim());
  // RFC 8693 §3: token type identifiers are URIs.
  if (!types.every((type) => absoluteUri.test(type)))
    fault('SUBJECT_TOKEN_TYPES', 'must be absolute URIs, comma-separated');
  return types;
}
