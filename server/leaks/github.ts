import { createHash, verify } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import type Router from '@koa/router';
import type { Context } from 'koa';
import { z } from 'zod';
import { policy } from '../../config/policy.ts';
import type { ExchangeSubject } from '../domain/exchange-policy.ts';
import { networkOf } from '../domain/network.ts';
import { digestPlatformToken, isPlatformTokenFormat } from '../domain/platform-token.ts';
import { maskSecrets } from '../domain/redaction.ts';
import { BodyError, readBytes } from '../http/body.ts';
import { clientAddress } from '../http/client-address.ts';
import { Problem } from '../http/problem.ts';
import { requestEvent } from '../http/request-event.ts';
import { createRouter } from '../http/router.ts';
import type { Transact } from '../storage/database.ts';
import type { LeakReports } from '../storage/leak-reports.ts';
import type { RevokedToken } from '../storage/platform-tokens.ts';
import { type RevocationStores, revokeWithTrail } from '../storage/revocation.ts';
import { type GitHubKeys, GitHubKeysError } from './github-keys.ts';

export interface LeakDeps extends RevocationStores {
  readonly keys: GitHubKeys;
  readonly leakReports: LeakReports;
  readonly transaction: Transact;
  readonly clock: () => Date;
}

const actorId = 'github-secret-scanning';

// Members that GitHub may add are passed over. `url` may be empty, and `source` is one of a list that grows.
const reportSchema = z.array(
  z.object({
    token: z.string(),
    type: z.string().max(256),
    url: z.string().nullish(),
    source: z.string().nullish(),
  }),
);
type Match = z.infer<typeof reportSchema>[number];

/** `POST /leaks/github`: reports of GitHub's secret-scanning partner programme. What is reported is public, so revoked. */
export function leakRoutes({ keys, leakReports, transaction, clock, ...stores }: LeakDeps): Router {
  const router = createRouter();
  const reading = createReading();
  router.post('/leaks/github', async (ctx) => {
    const body = await readSigned(ctx, keys, reading);
    const matches = parseReport(body);
    const subjects = await Promise.all(matches.map(({ token }) => find(token)));
    await revokeAll(ctx, createHash('sha256').update(body).digest(), matches, subjects);
    ctx.set('Cache-Control', 'no-store');
    // Not `token_hash`: of a SHA-256 GitHub does not say in which encoding it reads it. It has the token already.
    ctx.body = matches.map(({ token, type }, index) => ({
      token_raw: token,
      token_type: type,
      label: subjects[index] ? 'true_positive' : 'false_positive',
    }));
  });
  return router;

  async function find(token: string): Promise<ExchangeSubject | undefined> {
    if (!isPlatformTokenFormat(token)) return undefined;
    return stores.platformTokens.findForExchange(digestPlatformToken(token));
  }

  async function revokeAll(
    ctx: Context,
    digest: Buffer,
    matches: readonly Match[],
    subjects: readonly (ExchangeSubject | undefined)[],
  ): Promise<void> {
    const at = clock();
    const found = new Map<string, Match>();
    for (const [index, match] of matches.entries()) {
      const id = subjects[index]?.id;
      if (id !== undefined && !found.has(id)) found.set(id, match);
    }
    const actor = { type: 'system', id: actorId } as const;
    const event = ({ id: tokenId, organizationId }: RevokedToken) => {
      const reason = reasonOf(found.get(tokenId));
      return requestEvent(ctx, { at, action: 'token.revoked', actor, organizationId, tokenId, reason });
    };
    const choice = { ids: [...found.keys()] };
    await transaction(async (tx) => {
      if (!(await leakReports.record(digest, at, tx))) {
        throw new Problem({
          status: 409,
          title: 'Conflict',
          detail: 'The report has been processed before.',
        });
      }
      // Whatever it reports: the trail says who was here, and of how many tokens nobody knew.
      const received = {
        at,
        action: 'leak_report.received',
        actor,
        reason: `${matches.length} reported, ${found.size} known`,
      };
      await stores.auditEvents.insert([requestEvent(ctx, received)], tx);
      await revokeWithTrail(stores, { choice, visibility: { all: true }, actorId, at, event }, tx);
    });
  }
}

type Reading = ReturnType<typeof createReading>;

/**
 * Bodies are large, and whose they are is known when they are there: so many are read at once, and of one network fewer, which else could
 * keep everybody out by sending slowly.
 */
function createReading() {
  const present = new Map<string, number>();
  let total = 0;
  return async (ctx: Context): Promise<Buffer> => {
    const network = networkOf(clientAddress(ctx));
    const own = present.get(network) ?? 0;
    if (total >= policy.leakReportsAtOnce || own >= policy.leakReportsOfNetwork) {
      const headers = { 'Retry-After': String(policy.retryAfter) };
      const detail = 'Too many reports at once; try again.';
      ctx.req.resume();
      throw new Problem({ status: 503, title: 'Service Unavailable', detail, headers });
    }
    total += 1;
    present.set(network, own + 1);
    try {
      return await readLimited(ctx);
    } finally {
      total -= 1;
      const left = (present.get(network) ?? 1) - 1;
      if (left > 0) present.set(network, left);
      else present.delete(network);
    }
  };
}

/** The body, of which nothing is read where nobody can have signed it. */
async function readSigned(ctx: Context, keys: GitHubKeys, read: Reading): Promise<Buffer> {
  // No 401: it would have to name a scheme (RFC 9110 §15.5.2), and there is none for this signature.
  const refuse = (detail: string) => {
    ctx.req.resume();
    return badRequest(detail);
  };
  const identifier = /^[\w-]{1,128}$/.exec(ctx.get('Github-Public-Key-Identifier'))?.[0];
  const signature = /^[A-Za-z0-9+/]{1,256}={0,2}$/.exec(ctx.get('Github-Public-Key-Signature'))?.[0];
  if (!identifier || !signature) throw refuse('The signature of GitHub is missing.');
  if (!ctx.is('application/json')) throw refuse('The body must be application/json.');
  const key = await findKey(keys, identifier).catch((error) => {
    ctx.req.resume();
    throw error;
  });
  if (!key) throw refuse('The signature is not valid.');
  const body = await read(ctx);
  // ECDSA-NIST-P256V1-SHA256, as DER.
  if (!verify('sha256', body, key, Buffer.from(signature, 'base64')))
    throw badRequest('The signature is not valid.');
  return body;
}

async function readLimited(ctx: Context): Promise<Buffer> {
  const ended = new AbortController();
  const late = setTimeout(policy.leakReportBodyMs, undefined, { signal: ended.signal }).then(() => {
    const headers = { Connection: 'close' };
    throw new Problem({
      status: 408,
      title: 'Request Timeout',
      detail: 'The body came too slowly.',
      headers,
    });
  });
  try {
    return await Promise.race([readBytes(ctx.req, policy.leakReportBodyLimit), late]);
  } catch (error) {
    if (!(error instanceof BodyError)) throw error;
    const title = error.status === 413 ? 'Content Too Large' : 'Bad Request';
    throw new Problem({ status: error.status, title, detail: error.message });
  } finally {
    ended.abort();
  }
}

async function findKey(keys: GitHubKeys, identifier: string) {
  try {
    return await keys.find(identifier);
  } catch (cause) {
    if (!(cause instanceof GitHubKeysError)) throw cause;
    const headers = { 'Retry-After': String(policy.githubKeysRetry) };
    const detail = 'The keys of GitHub are out of reach; try again.';
    throw new Problem({ status: 503, title: 'Service Unavailable', detail, headers }, { cause });
  }
}

function parseReport(body: Buffer): Match[] {
  let report: unknown;
  try {
    report = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw badRequest('The body is not JSON.');
  }
  const { data } = reportSchema.safeParse(report);
  if (!data) throw badRequest('The body is not a report.');
  if (data.length > policy.leakReportTokens) {
    throw new Problem({ status: 413, title: 'Content Too Large', detail: 'The report has too many tokens.' });
  }
  return data;
}

/** For the audit trail: where GitHub found it, in words of a bounded length. */
function reasonOf(match: Match | undefined): string {
  const source = /^\w{1,64}$/.exec(match?.source ?? '')?.[0] ?? 'unknown';
  const reason = `reported as leaked: ${source}`;
  const address = match?.url && URL.canParse(match.url) ? new URL(match.url) : undefined;
  if (!address || !/^https?:$/.test(address.protocol) || address.username || address.password) return reason;
  const whole = `${reason} ${maskSecrets(address.href)}`;
  return whole.length <= policy.reasonMaximumLength ? whole : reason;
}

function badRequest(detail: string): Problem {
  return new Problem({ status: 400, title: 'Bad Request', detail });
}
