/** So many in a window of so many seconds, from the first one. */
export interface Limit {
  readonly points: number;
  readonly window: number;
}

const perMinute = (points: number): Limit => Object.freeze({ points, window: 60 });
const perQuarter = (points: number): Limit => Object.freeze({ points, window: 15 * 60 });

/**
 * Rate limits, by the names that `RATE_LIMIT_OVERRIDES` and the answers use. None of them may keep a good credential out
 * because of somebody else: see docs/decisions/0011.
 */
const limits = Object.freeze({
  /**
   * Failures of one and the same token or client secret. A client that knows its token to be dead needs none; ten leave room for a
   * restart loop, and for a token whose user is made active again meanwhile.
   */
  'exchange-failures': perMinute(10),
  /**
   * Failures from one address, whatever was presented. A whole company may stand behind it, with a dead token in every
   * machine: beyond it only what has failed, and what is new, is held back.
   */
  'exchange-failures-address': perMinute(300),
  /** Exchanges of one platform token, in each process: fifty a second of what is needed once in four hours. */
  exchanges: perMinute(3_000),
  /** Writes to the admin API: twenty a second for a provisioning job, two for somebody who clicks. */
  'admin-writes-client': perMinute(1_200),
  'admin-writes-user': perMinute(120),
  /**
   * Authorization requests, and requests to sign out, of one address, or of the user whose browser is known: each leaves a row. Twenty a second
   * for a company.
   */
  authorizations: perMinute(1_200),
  /** Sign-in attempts that fail. Five tries for a typo, then a pause that makes guessing hopeless. */
  'sign-in-account-address': perQuarter(5),
  /** Of a browser that has signed in before: its own, which nobody else can use up. */
  'sign-in-known-browser': perQuarter(5),
  /** Ten times as many for an office behind one address, and for one account over all addresses. */
  'sign-in-address': perQuarter(50),
  'sign-in-account': perQuarter(50),
});
export type LimitName = keyof typeof limits;
export type Limits = Readonly<Record<LimitName, Limit>>;

/** What the id of a client is made of: whatever else a request names as one is none, and is not asked for. */
export const clientIdPattern = /^[A-Za-z0-9._-]{1,64}$/;

/** The product's fixed numbers. Durations are in seconds unless the name says otherwise. */
export const policy = Object.freeze({
  /** Platform tokens: 730 days, whatever the calendar does in between. */
  platformTokenLifetime: 730 * 24 * 60 * 60,
  /** Active platform tokens of one user in one organization. */
  platformTokenLimit: 20,
  /** Access tokens that a platform token is exchanged for. */
  accessTokenLifetime: 4 * 60 * 60,
  /** Access tokens of machine administrators, from `client_credentials`. */
  machineTokenLifetime: 60 * 60,
  /** Access tokens of signed-in users, from the code flow: short, because they sit in a browser. */
  userTokenLifetime: 10 * 60,
  sessionLifetime: 12 * 60 * 60,
  interactionLifetime: 60 * 60,
  authorizationCodeLifetime: 60,
  refreshTokenLifetime: 14 * 24 * 60 * 60,
  /** `Cache-Control: max-age` of the JWKS and of the metadata documents. */
  jwksMaxAge: 300,
  metadataMaxAge: 300,
  /** The oldest copy of the JWKS that is reckoned with: jose and others keep it for ten minutes, whatever its max-age. */
  jwksCopyAge: 600,
  /** Status lists: how long a verifier may go by its copy; with the two below at most 75 s after a revocation. */
  statusListTtl: 60,
  /** How long an instance, and then a cache before it, keeps a list. */
  statusListMaxAge: 5,
  /** How long the database may take before the last list is served: a verifier gives up after five seconds. */
  statusListPatience: 3,
  /** Life of a signed list: what verifiers may go by while the issuer is away. */
  statusListLifetime: 60 * 60,
  /** How often an instance reads the signing keys, where nobody tells it of a change. */
  keyRefreshInterval: 30,
  /** How far apart the clocks of instances and verifiers may be. */
  clockSkew: 60,
  /** How often an instance compares its clock with the database's, and how exactly it can. */
  clockInterval: 10,
  clockMeasureMs: 1_000,
  /** `Retry-After` of a 503. */
  retryAfter: 2,
  /** How often a process asks whether the database answers, for its metrics. */
  databaseProbeIntervalMs: 10_000,
  /** How often the platform tokens of each status are counted, for the metrics. */
  tokenCountIntervalMs: 5 * 60 * 1000,
  /** What is past its time is deleted this often. */
  sweepIntervalMs: 10 * 60 * 1000,
  /** Spans that wait for the collector, for how long one export may take, and how long a stop waits for the last. */
  traceQueueSize: 2_048,
  traceExportTimeoutMs: 10_000,
  traceFlushLimitMs: 2_000,
  /** That traces are lost is said no more often than this. */
  traceComplaintIntervalMs: 60_000,
  /** How long a worker may take to tell what it has counted. */
  workerReportTimeoutMs: 1_000,
  /**
   * A server that stops: how long a connection that looks idle has for one more request, where anything is in front that could
   * be sending it, and how long requests in flight have.
   */
  idleGraceMs: 2_000,
  drainLimitMs: 20_000,
  /**
   * Shedding, by the event loop's delay and by how long exchanges wait for a look-up, in ms: it begins at the first bound,
   * ends below the second, and at the third the largest share of requests is refused. What is accepted passes a few turns
   * of the loop, so it takes a few times the one and once the other. A database that takes half a second is no overload.
   */
  overload: Object.freeze({
    loop: Object.freeze({ begin: 200, end: 100, full: 500, maximumShare: 0.95 }),
    wait: Object.freeze({ begin: 800, end: 400, full: 1_600, maximumShare: 0.95 }),
  }),
  /** How often they are measured, and a line about it written at most. */
  overloadIntervalMs: 50,
  overloadLogIntervalMs: 1_000,
  /** What a client has for its headers and for its whole request, and how long nothing may pass on a connection… */
  connections: Object.freeze({
    headersMs: 10_000,
    requestMs: 30_000,
    idleInRequestMs: 60_000,
    /** …between requests: longer than proxies keep theirs, which would else send into one that is just being closed. */
    idleMs: 75_000,
    /** How often that is looked at. */
    checkMs: 2_000,
    /** Requests that may wait behind the first of a connection: hardly any client sends one, and each is memory. */
    pipelined: 4,
    /** In each process. */
    maximum: 4_000,
    /**
     * Sockets that listen on the port: from each, one connection is taken in a turn of the event loop. With 16, more come than can be
     * served: of 3,600 connections the longest answer takes 7 to 11 s instead of 3 (npm run test:faults).
     */
    listening: 4,
  }),
  /** How long a process goes on at most after an error that nobody caught. */
  strayErrorLimitMs: 60_000,
  /** Queries and transactions, and look-ups joined in few queries, that wait for the database: more are 503 at once. */
  waitingQueries: 100,
  waitingLookups: 2_000,
  /**
   * Look-ups in one query, and queries of them under way. Twice so many are answered in a turn of the event loop: with fewer, what is
   * accepted under load waits for many turns.
   */
  joinedLookups: Object.freeze({ keys: 400, calls: 2 }),
  /** Where a question was not answered in time: one more is asked, for so long, and again after so long. */
  databaseProbeTimeoutMs: 1_000,
  databaseProbePauseMs: 500,
  /** Connections are made anew at most so often. */
  connectionRenewalPauseMs: 3_000,
  /** How long a transaction waits for another one's lock, and may do nothing while it holds its own. */
  lockTimeoutMs: 3_000,
  idleTransactionTimeoutMs: 10_000,
  /** How often a transaction is tried that was undone by another one or by a lost connection, and the first pause. */
  transactionAttempts: 3,
  transactionPauseMs: 20,
  /** Where the answer to a COMMIT is lost: how often the database is asked for it, how long before the answer and behind it. */
  commitQuestionPauseMs: 100,
  commitPatienceMs: 3_000,
  commitSettlementMs: 60 * 60 * 1_000,
  unsettledTransactions: 100,
  /** Request bodies, in bytes. */
  tokenRequestBodyLimit: 16 * 1024,
  signInBodyLimit: 16 * 1024,
  adminRequestBodyLimit: 64 * 1024,
  leakReportBodyLimit: 1024 * 1024,
  /** Reports whose bodies are read at once, of all and of one network, and for how long: nobody has shown yet who sends them. */
  leakReportsAtOnce: 64,
  leakReportsOfNetwork: 8,
  leakReportBodyMs: 5_000,
  /** Tokens of one leak report. */
  leakReportTokens: 1_000,
  /** How long a leak report is known again. After that it does no more than it did: a revoked token stays revoked. */
  leakReportMemory: 90 * 24 * 60 * 60,
  /** The document of GitHub's keys, in bytes, and how long GitHub may take to send it. */
  githubKeysLimit: 64 * 1024,
  githubKeysTimeout: 5,
  /**
   * What its `max-age` may come to; a key that is unknown asks again, but no sooner than the cool-down. GitHub allows an
   * address sixty requests an hour, and callers are nobody yet.
   */
  githubKeysMaxAge: 24 * 60 * 60,
  githubKeysCoolDown: 5 * 60,
  /** After a failure where there are no keys yet, and how long older keys serve in their place. */
  githubKeysRetry: 10,
  githubKeysStale: 24 * 60 * 60,
  /** Of an event of the audit trail. */
  reasonMaximumLength: 500,
  /** Exchanges and last-used stamps are written this often: what a crash may lose. */
  usageFlushIntervalMs: 500,
  /** …or as soon as so many wait. */
  usageBatchSize: 250,
  /** Events of one statement. */
  usageBatchMaximum: 1_000,
  /**
   * Of a token's exchanges within a minute, so many have an event each, and then one more from each address and user
   * agent; a last event for each of those counts the rest. In each server process.
   */
  exchangeEventsAMinute: 4,
  exchangeMinuteMs: 60_000,
  /** Tokens × addresses × user agents that are counted at once: more of them have an event for each exchange. */
  exchangeSources: 10_000,
  /** Refusals that differ are counted each by itself in a minute, up to so many; the others together. */
  countedEvents: 1_000,
  /**
   * Events leave by whole months: none before it is so many months old, and all a month later. The functions of the database
   * that drop them have the same numbers.
   */
  exchangeEventMonths: 13,
  auditEventMonths: 36,
  /** Events are sealed this often, in batches of at most so many of each table. */
  auditSealIntervalMs: 60_000,
  auditBatch: 10_000,
  /** Usage events that wait in memory while the database is away; the oldest go first. */
  usageBufferLimit: 50_000,
  /** Platform tokens leave so long after they ended, by expiry or revocation. */
  endedTokenRetention: 400 * 24 * 60 * 60,
  /** Of each statement; the pause after it; and of each sweep, of which there is one every ten minutes. */
  retentionBatch: 1_000,
  retentionPauseMs: 50,
  retentionBatchesASweep: 100,
  /** How long a statement that changes a busy table waits for its lock, before it leaves it to the next sweep. */
  sweepLockTimeoutMs: 200,
  limits: limits as Limits,
  /** Counters that instances share are written and read this often, in one statement of at most so many. */
  sharedCounterIntervalMs: 1_000,
  sharedCounterRows: 1_000,
  /** Addresses, or callers, that a process counts at once: the oldest go first. */
  countedKeys: 20_000,
  /** Failed and good credentials that a process remembers, by bits of their digests: 1.5 MB and 1 MB. */
  rememberedFailures: 2 ** 17,
  rememberedGood: 2 ** 18,
  /**
   * Look-ups a second for an address over its limit, in each process: of credentials that are new here, and of those that come
   * back after a 429. Enough for ten thousand dead tokens behind one address, each of which fails once a minute.
   */
  lookUpsOverLimit: Object.freeze({ fresh: 50, returning: 200 }),
  /** `Retry-After` for an address over its limit: up to so many seconds, by chance, as all behind it come at once. */
  addressRetryAfter: 5,
  /**
   * Refusals of the OAuth endpoints leave at this pace in each process; so many at once are none too many. The rest waits,
   * no longer than clients put up with: so at most 400 wait.
   */
  refusalsASecond: 100,
  refusalBurst: 50,
  refusalWaitMs: 4_000,
  /** How long a refused sign-in attempt is refused again without asking the counters. */
  signInRefusalMemoryMs: 5_000,
  /** How long a browser counts as one that has signed in before. */
  knownBrowserLifetime: 180 * 24 * 60 * 60,
  bcryptCost: 12,
  minimumPasswordLength: 8,
  /** bcrypt reads 72 bytes and ignores the rest: longer ones are refused, never cut. */
  maximumPasswordBytes: 72,
  minimumAdminSecretLength: 32,
  pageSizeDefault: 50,
  pageSizeMaximum: 100,
  /** In bytes. Proxies refuse an answer whose headers are long: nginx, as it comes, takes 4 or 8 KiB of them in all. */
  linkHeaderLimit: 3 * 1024,
  bulkRevokeMaximum: 100,
  /** Events of a query of an export. */
  exportPage: 500,
  /** A list's `total` is exact up to here; above it, of events and of platform tokens over all organizations, PostgreSQL's estimate. */
  exactTotal: 10_000,
  exactTotalOfAllTokens: 500,
});
