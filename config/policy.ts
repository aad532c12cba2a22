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
  /** Between being told to stop and taking no new connection. */
  drainDelayMs: 1_000,
  /** Request bodies, in bytes. */
  tokenRequestBodyLimit: 16 * 1024,
  signInBodyLimit: 16 * 1024,
  adminRequestBodyLimit: 64 * 1024,
  leakReportBodyLimit: 1024 * 1024,
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
  /** Exchange events leave by whole months: none before it is so many months old, and all a month later. */
  exchangeEventMonths: 13,
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
  /** Sign-in attempts that fail, in a window of so many seconds from the first one. */
  signInLimits: Object.freeze({ window: 15 * 60, perAccountAndAddress: 5, perAddress: 50, perAccount: 50 }),
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
  /** A list's `total` is exact up to here; above it, for lists over all organizations and of events, PostgreSQL's estimate. */
  exactTotal: 10_000,
});
