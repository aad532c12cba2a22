import Koa, { type Context, type Middleware } from 'koa';
import compose from 'koa-compose';
import mount from 'koa-mount';
import type { Logger } from 'pino';
import type { Config } from '../config/env.ts';
import type { LimitName } from '../config/policy.ts';
import { createAdminApi } from './admin/index.ts';
import { refuseRepeatedAuthorization } from './http/authorization.ts';
import { type Dashboard, dashboardRoutes } from './http/dashboard.ts';
import { errorMapper } from './http/errors.ts';
import { healthRoutes } from './http/health.ts';
import { metricsRoutes } from './http/metrics.ts';
import { methodNotAllowed } from './http/problem.ts';
import { problemTypeRoutes } from './http/problem-types.ts';
import { type RequestObserver, requestLog, requestMarks } from './http/request-log.ts';
import { requestTarget } from './http/request-target.ts';
import { securityHeaders } from './http/security-headers.ts';
import type { KeyRing } from './keys/key-ring.ts';
import type { Sealer } from './keys/sealing.ts';
import type { KeySet } from './keys/signing-keys.ts';
import { leakRoutes } from './leaks/github.ts';
import { createGitHubKeys } from './leaks/github-keys.ts';
import { createLimits } from './limits.ts';
import { formats, writeFamilies } from './metrics/exposition.ts';
import type { Metrics } from './metrics/metrics.ts';
import type { Family } from './metrics/registry.ts';
import { anonymousClient } from './oidc/anonymous-client.ts';
import { limitAuthorizations } from './oidc/authorization-limit.ts';
import { createClientEvents } from './oidc/client-events.ts';
import { formEndpoint } from './oidc/form-endpoint.ts';
import { signInRoutes } from './oidc/interaction.ts';
import { introspection } from './oidc/introspection.ts';
import { metadataRoutes } from './oidc/metadata.ts';
import { createProvider, providerMiddleware } from './oidc/provider.ts';
import { revocation } from './oidc/revocation.ts';
import { signJwt } from './oidc/sign-jwt.ts';
import { statusListRoutes } from './oidc/status-lists.ts';
import { tokenEndpoint } from './oidc/token-endpoint.ts';
import { tokenOutcome } from './oidc/token-outcome.ts';
import type { Database } from './storage/database.ts';
import type { Stores } from './storage/stores.ts';
import type { Tracing } from './tracing/index.ts';

export interface AppDeps {
  readonly config: Pick<
    Config,
    | 'production'
    | 'issuer'
    | 'subjectTokenTypes'
    | 'tokenPrefix'
    | 'trustProxy'
    | 'metricsToken'
    | 'rateLimits'
    | 'limits'
    | 'githubSecretScanningKeysUrl'
  >;
  readonly database: Database;
  readonly stores: Stores;
  readonly sealer: Sealer;
  readonly keyRing: KeyRing;
  readonly dashboard: Dashboard;
  readonly metrics: Metrics;
  /** What all processes of this instance have counted. */
  readonly readMetrics: () => Promise<readonly Family[]>;
  /** Absent: requests are not traced. */
  readonly tracing?: Tracing | undefined;
  readonly logger: Logger;
  readonly clock: () => Date;
  readonly stopping: () => boolean;
  /** Told of each request that a rate limit refuses. */
  readonly onLimited?: (limit: LimitName) => void;
  /** Monotonic, in ms: the clock of the rate limits. */
  readonly now?: () => number;
  /** How refusals wait for their turn. @param ms */
  readonly delay?: (ms: number) => Promise<unknown>;
}

/** All wiring, and the order in which a request meets it. */
export function createApp(deps: AppDeps): Koa {
  const { config, database, sealer, keyRing, metrics, tracing, logger, clock, stopping } = deps;
  const stores = tracing ? traceStores(tracing, deps) : deps.stores;
  const sign = tracing?.traced('sign access token', signJwt);
  const { issuer, subjectTokenTypes, tokenPrefix } = config;
  const issuerUrl = new URL(issuer);
  const tls = issuerUrl.protocol === 'https:';
  const onUnexpected = (error: unknown, ctx?: Context) =>
    logger.error({ ...(ctx && requestMarks(ctx)), err: error }, 'unexpected error');
  const transaction = database.transact;

  const limits = createLimits({
    config,
    rateLimits: stores.rateLimits,
    secret: String(sealer.cookieKeys[0]),
    logger,
    now: deps.now ?? (() => performance.now()),
    onLimited: deps.onLimited ?? metrics.onLimited,
    delay: deps.delay,
  });
  const { keySet } = keyRing;
  const provider = perKeySet(keySet, (present) =>
    createProvider({
      ...stores,
      ...limits,
      issuer,
      keySet: present,
      sealer,
      subjectTokenTypes,
      sign,
      clock,
    }),
  );
  const metadata = metadataRoutes({ issuer, keySet });
  const faults = async () => {
    const reasons = await database.faults();
    return reasons.length > 0 ? reasons : keyRing.faults();
  };
  const statusLists = statusListRoutes({
    ...stores,
    issuer,
    keySet,
    watch: metrics.upkeep.statusLists,
    clock,
  });
  const health = healthRoutes({ stopping, faults });
  const githubKeys = createGitHubKeys({
    url: config.githubSecretScanningKeysUrl,
    clock,
    fetch: tracing?.fetch,
    onError: (err) => logger.warn({ err }, "GitHub's keys could not be fetched"),
  });
  const leaks = leakRoutes({ ...stores, keys: githubKeys, transaction, clock });
  const admin = createAdminApi({
    ...stores,
    ...limits,
    issuer,
    tokenPrefix,
    clock,
    transaction,
    keySet,
    keyRing,
  });
  const signIn = signInRoutes({
    ...stores,
    ...limits,
    issuer,
    provider,
    limits: config.limits,
    onSignIn: metrics.onSignIn,
    clock,
  });

  const app = createKoa(issuerUrl, config.trustProxy);
  // The provider signs its cookies with the keys of the application that it runs in.
  app.keys = [...sealer.cookieKeys];
  app.on('error', (err, ctx?: Context) => {
    // What a request throws is answered by the error mapper; this way comes what happened to a connection.
    if (isConnectionError(err)) logger.info({ ...(ctx && requestMarks(ctx)), err }, 'connection error');
    else onUnexpected(err, ctx);
  });
  app.use(requestLog(logger, observeRequests(metrics)));
  if (tracing) app.use(tracing.requests);
  app.use((ctx, next) => {
    // A connection that is kept alive would be cut under its next request.
    if (stopping()) ctx.set('Connection', 'close');
    return next();
  });
  app.use(securityHeaders({ tls }));
  app.use(errorMapper({ issuer, onUnexpected }));
  app.use(requestTarget);

  const mounted = new Koa();
  // The exchange first: it is what machines do all day, and no router's patterns are tried before it.
  const library = providerMiddleware(provider);
  const clientEvents = createClientEvents({ ...stores, clock });
  const endpoint = (path: string, ...middleware: Middleware[]) => {
    const edge = formEndpoint(path, { ...limits, issuer, clientEvents, onUnexpected });
    mounted.use(at(path, compose([edge, ...middleware])));
  };
  endpoint(
    '/oauth/token',
    tokenEndpoint(limits.failureLimits, clientEvents),
    anonymousClient(limits.failureLimits),
    library,
  );
  endpoint('/oauth/introspect', introspection({ ...stores, ...limits, issuer, keySet, clock }));
  endpoint('/oauth/revoke', revocation({ ...stores, ...limits, provider, transaction, clock }));
  mounted.use(refuseRepeatedAuthorization);
  mounted.use((ctx, next) => {
    if (!providerPaths.test(ctx.path)) return next();
    ctx.state.route = ctx.path.replace(/^(\/oauth\/authorize)\/.*/, '$1/:uid');
    const methods = ctx.path === '/oauth/logout/confirm' ? ['POST'] : ['GET', 'HEAD'];
    if (!methods.includes(ctx.method)) throw methodNotAllowed(methods);
    return next();
  });
  // Each leaves a row, whoever asks.
  const limited = limitAuthorizations(issuer, config.limits, limits.countAuthorization, limits.paceRefusal);
  for (const path of ['/oauth/authorize', '/oauth/logout']) mounted.use(at(path, limited));
  mounted.use((ctx, next) => {
    if (!providerPaths.test(ctx.path)) return next();
    // The library's one page (`form_post`) names its script here, by digest, where there is such a directive.
    ctx.set('Content-Security-Policy', "default-src 'none'; script-src; frame-ancestors 'none'");
    return library(ctx, next);
  });
  const dashboard = dashboardRoutes(deps.dashboard, issuer);
  const routers = [
    health,
    metadata.mounted,
    statusLists,
    leaks,
    signIn,
    admin,
    problemTypeRoutes(),
    dashboard,
  ];
  // Without a token it is for development: in production there is no such path then.
  if (config.metricsToken !== undefined || !config.production) {
    const write = (format: keyof typeof formats) => ({
      type: formats[format],
      write: async () => writeFamilies(await deps.readMetrics(), format),
    });
    const writers = [write('prometheus'), write('openMetrics')];
    routers.push(metricsRoutes({ issuer, token: config.metricsToken, formats: writers }));
  }
  for (const router of routers) {
    mounted.use(router.routes());
    mounted.use(router.allowedMethods());
  }
  app.use(mount(issuerUrl.pathname, mounted));
  app.use(metadata.root);
  return app;
}

function traceStores(tracing: Tracing, { stores, database }: AppDeps): Stores {
  return { ...stores, platformTokens: tracing.queries(database).lookups(stores.platformTokens) };
}

function observeRequests({ http, exchange }: Metrics): RequestObserver {
  return {
    started: http.started,
    ended(ctx, route, status, seconds) {
      http.ended(route, ctx.method, status, seconds);
      const outcome = tokenOutcome(ctx, status);
      if (!outcome) return;
      if (outcome.issued) exchange.issued(outcome.grantType);
      if (outcome.exchange) exchange.exchanged(outcome.outcome, outcome.serviceId, seconds);
    },
  };
}

/** One for the present keys; the next one is made when the keys have changed, and requests under way keep theirs. */
function perKeySet<T>(keySet: () => KeySet, create: (keySet: KeySet) => T): () => T {
  let made: { readonly of: KeySet; readonly value: T } | undefined;
  const get = () => {
    const present = keySet();
    if (made?.of !== present) made = { of: present, value: create(present) };
    return made.value;
  };
  // The first one now: a fault of the configuration is one of the start.
  get();
  return get;
}

/** URLs come from ISSUER alone: a forged Host or X-Forwarded-Host never shows up in one. */
function createKoa(issuer: URL, trustProxy: boolean): Koa {
  // One trusted hop: the address that the proxy itself saw is the last of X-Forwarded-For.
  const app = new Koa({ proxy: trustProxy, maxIpsCount: 1 });
  Object.defineProperties(app.request, {
    host: { get: () => issuer.host },
    hostname: { get: () => issuer.hostname },
    protocol: { get: () => issuer.protocol.slice(0, -1) },
  });
  return app;
}

// The library also answers other spellings (a trailing slash, capitals), past the checks that stand before these.
const providerPaths = /^\/oauth\/(authorize(\/[\w-]+)?|logout(\/(confirm|success))?)$/;

/** The client went away, or sent what is no HTTP (Node's HPE_ codes). */
function isConnectionError(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && /^(HPE_|ECONNRESET|EPIPE|ERR_STREAM_)/.test(code);
}

function at(path: string, middleware: Middleware): Middleware {
  return (ctx, next) => (ctx.path === path ? middleware(ctx, next) : next());
}
