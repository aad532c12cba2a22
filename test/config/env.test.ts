import { availableParallelism } from 'node:os';
import { describe, expect, it } from 'vitest';
import { ConfigError, readConfig } from '../../config/env.ts';
import { policy } from '../../config/policy.ts';

const key = Buffer.alloc(32, 1).toString('base64url');
const production = {
  NODE_ENV: 'production',
  ISSUER: 'https://id.example.com',
  DATABASE_URL: 'postgres://u:p@db/app',
  KEY_ENCRYPTION_KEY: key,
};

function faults(env: NodeJS.ProcessEnv): string[] {
  try {
    readConfig(env);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.faults.map((fault) => String(fault.split(' ')[0]));
    throw error;
  }
}

describe('readConfig', () => {
  it('reports every fault at once, by variable name and without its value', () => {
    const env = {
      PORT: 'secret-port',
      ISSUER: 'ftp://x',
      DATABASE_URL: 'mysql://secret',
      KEY_ENCRYPTION_KEY: 'secret-key',
      ADMIN_CLIENT_ID: 'a b',
      ADMIN_CLIENT_SECRET: 'secret-short',
      SIGNING_ALG: 'HS256',
      TOKEN_PREFIX: 'P_',
      SUBJECT_TOKEN_TYPES: 'nonsense',
      TRUST_PROXY: 'yes',
      GITHUB_SECRET_SCANNING_KEYS_URL: 'http://secret.example',
      RATE_LIMITS: 'maybe',
      RATE_LIMIT_OVERRIDES: 'secret',
      LOG_LEVEL: 'loud',
      WORKERS: '0',
      MIGRATE_ON_START: '1',
      SHUTDOWN_DELAY_SECONDS: '31',
    };
    expect(faults(env).toSorted()).toEqual(Object.keys(env).toSorted());
    expect(() => readConfig(env)).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('secret') }),
    );
  });

  it.each([
    ['an http issuer', { ISSUER: 'http://id.example.com' }, 'ISSUER'],
    ['no database', { DATABASE_URL: undefined }, 'DATABASE_URL'],
    ['rate limits off', { RATE_LIMITS: 'off' }, 'RATE_LIMITS'],
    ['no key encryption key', { KEY_ENCRYPTION_KEY: undefined }, 'KEY_ENCRYPTION_KEY'],
    ['one key of several too short', { KEY_ENCRYPTION_KEY: `${key},abc` }, 'KEY_ENCRYPTION_KEY'],
  ])('refuses production with %s', (_what, change, variable) => {
    expect(faults({ ...production, ...change })).toContain(variable);
  });

  it.each([
    'https://h/',
    'https://h/a/',
    'https://h?x',
    'https://h#x',
    'https://u:p@h',
    'https://H.example',
    'https://h:443',
  ])('refuses the issuer %s, which has another spelling or what an issuer must not have', (issuer) =>
    expect(faults({ ISSUER: issuer })).toEqual(['ISSUER']),
  );

  it("refuses a port of the system's choice without an issuer: nobody could name one before", () => {
    expect(faults({ PORT: '0' })).toEqual(['ISSUER']);
    expect(faults({ PORT: '0', ISSUER: 'http://localhost:4000' })).toEqual([]);
  });

  it('has the defaults of the contract', () => {
    expect(readConfig({})).toMatchObject({
      port: 3000,
      host: '127.0.0.1',
      issuer: 'http://localhost:3000',
      databaseUrl: undefined,
      keyEncryptionKeys: [],
      adminClientId: 'admin',
      signingAlg: 'ES256',
      tokenPrefix: 'ptk',
      trustProxy: false,
      rateLimits: true,
      logLevel: 'info',
      workers: 1,
      migrateOnStart: false,
      githubSecretScanningKeysUrl: 'https://api.github.com/meta/public_keys/secret_scanning',
    });
    expect(readConfig(production).host).toBe('0.0.0.0');
    expect(readConfig({ PORT: '4000' }).issuer).toBe('http://localhost:4000');
    expect(readConfig({ PORT: '80' }).issuer).toBe('http://localhost');
  });

  it('takes numbers of rate limits in place of its own', () => {
    const { limits } = readConfig({ RATE_LIMIT_OVERRIDES: 'exchanges=6000/60, sign-in-account=9/30' });
    expect(limits).toEqual({
      ...policy.limits,
      exchanges: { points: 6000, window: 60 },
      'sign-in-account': { points: 9, window: 30 },
    });
    expect(readConfig({}).limits).toEqual(policy.limits);
  });

  it.each([
    ['an unknown name', 'exchange=1/1'],
    ['a name that every object has', 'constructor=1/1'],
    ['no window', 'exchanges=1'],
    ['nothing allowed', 'exchanges=0/60'],
    ['a window of nothing', 'exchanges=1/0'],
    ['more than a number can be', 'exchanges=10000000/60'],
    ['one name twice', 'exchanges=1/1,exchanges=2/2'],
    ['an empty entry', 'exchanges=1/1,'],
  ])('refuses rate limits with %s', (_what, value) => {
    expect(faults({ RATE_LIMIT_OVERRIDES: value })).toEqual(['RATE_LIMIT_OVERRIDES']);
  });

  it('reports every fault of the rate limits, by its place', () => {
    expect(() => readConfig({ RATE_LIMIT_OVERRIDES: 'a=1/1,exchanges=5/5,b' })).toThrow(
      expect.objectContaining({
        faults: [
          expect.stringMatching(/^RATE_LIMIT_OVERRIDES entry 1 must name one of exchange-failures /),
          expect.stringMatching(/^RATE_LIMIT_OVERRIDES entry 3 must be name=points\/seconds/),
        ],
      }),
    );
  });

  it('takes an issuer with a path and several key encryption keys', () => {
    const config = readConfig({
      ...production,
      ISSUER: 'https://eu.example.com/idm',
      KEY_ENCRYPTION_KEY: `${key},${key}`,
    });
    expect(config.issuer).toBe('https://eu.example.com/idm');
    expect(config.keyEncryptionKeys.map((one) => one.length)).toEqual([32, 32]);
  });

  it.each([
    'http://keys.example',
    'http://127.0.0.1.example.com',
    'ftp://localhost/keys',
    'https://u:p@keys.example',
    'https://keys.example#x',
    'keys',
  ])('refuses keys of GitHub from %s', (url) =>
    expect(faults({ GITHUB_SECRET_SCANNING_KEYS_URL: url })).toEqual(['GITHUB_SECRET_SCANNING_KEYS_URL']),
  );

  it.each(['https://keys.example/a?b', 'http://localhost:1/keys', 'http://127.0.0.1:1', 'http://[::1]:1'])(
    'takes keys of GitHub from %s',
    (url) =>
      expect(readConfig({ GITHUB_SECRET_SCANNING_KEYS_URL: url }).githubSecretScanningKeysUrl).toBe(url),
  );

  it('takes a number of workers, or the number of cores', () => {
    expect(readConfig({ WORKERS: '3' }).workers).toBe(3);
    expect(readConfig({ WORKERS: 'auto' }).workers).toBe(availableParallelism());
  });

  it('takes a delay before it stops, none as well', () => {
    for (const seconds of [0, 30])
      expect(readConfig({ SHUTDOWN_DELAY_SECONDS: String(seconds) }).shutdownDelay).toBe(seconds);
    expect(readConfig({}).shutdownDelay).toBe(1);
    expect(faults({ SHUTDOWN_DELAY_SECONDS: '-1' })).toEqual(['SHUTDOWN_DELAY_SECONDS']);
  });

  it('is frozen', () => {
    const config = readConfig({});
    expect(Object.isFrozen(config) && Object.isFrozen(config.subjectTokenTypes)).toBe(true);
  });
});
