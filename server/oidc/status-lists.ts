import { createHash } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import type Router from '@koa/router';
import { policy } from '../../config/policy.ts';
import {
  compressStatusBits,
  createStatusBits,
  statusListSize,
  statusListUri,
} from '../domain/status-list.ts';
import { type Document, documentOf, writeDocument } from '../http/documents.ts';
import { notFound, Problem } from '../http/problem.ts';
import { createRouter } from '../http/router.ts';
import type { KeySet } from '../keys/signing-keys.ts';
import type { StatusLists } from '../storage/status-lists.ts';
import { signJwt } from './sign-jwt.ts';

export interface StatusListDeps {
  readonly issuer: string;
  readonly keySet: () => KeySet;
  readonly statusLists: StatusLists;
  readonly watch: StatusListWatch;
  readonly clock: () => Date;
}

/** Who is told what becomes of the lists. */
export interface StatusListWatch {
  built(seconds: number, bytes: number): void;
  failed(): void;
  /** @param stale it should have been read anew, and could not be */
  served(ageSeconds: number, stale: boolean): void;
}

interface Built {
  readonly document: Document;
  readonly bitsDigest: string;
  readonly kid: string | undefined;
  /** `iat` and `exp` of the token, in milliseconds. */
  readonly issuedAt: number;
  readonly expiresAt: number;
  /** When the database was last asked. */
  readonly readAt: number;
}

/**
 * `GET /oauth/status-lists/{n}`: the Status List Token (draft-ietf-oauth-status-list §5.1, §8) of the tokens with these places.
 * Kept for a few seconds, so that a flood asks the database once a list; signed anew when a bit or the key changes, or
 * half of its life is over, so that the entity tag stands for what it says.
 */
export function statusListRoutes({ issuer, keySet, statusLists, watch, clock }: StatusListDeps): Router {
  const lists = new Map<number, Built>();
  const building = new Map<number, Promise<Built | undefined>>();
  /**
   * How many lists had tokens when the database was last asked. One more is there, empty: the first token in it must not
   * meet verifiers who were told that there is none. Of further ones the database need not be asked again so soon.
   */
  let known = { count: Number.POSITIVE_INFINITY, until: 0 };
  const router = createRouter();

  async function sign(list: number, bits: Buffer, now: number): Promise<Document> {
    const iat = Math.floor(now / 1000);
    const body = await signJwt(keySet(), 'statuslist+jwt', {
      sub: statusListUri(issuer, list),
      iss: issuer,
      iat,
      exp: iat + policy.statusListLifetime,
      ttl: policy.statusListTtl,
      status_list: { bits: 1, lst: compressStatusBits(bits) },
    });
    return documentOf(body);
  }

  async function build(list: number): Promise<Built | undefined> {
    const now = clock().getTime();
    const first = list * statusListSize;
    const { highest, invalid } = await statusLists.read(first, first + statusListSize - 1);
    known = { count: Math.floor(highest / statusListSize) + 1, until: now + policy.statusListMaxAge * 1000 };
    if (list > known.count) return undefined;
    const bits = createStatusBits(invalid);
    const bitsDigest = createHash('sha256').update(bits).digest('base64url');
    const kid = keySet().publicJwks[0]?.kid;
    const before = lists.get(list);
    const keeps =
      before?.bitsDigest === bitsDigest &&
      before.kid === kid &&
      now - before.issuedAt < policy.statusListLifetime * 500;
    const built = keeps
      ? { ...before, readAt: now }
      : {
          document: await sign(list, bits, now),
          bitsDigest,
          kid,
          issuedAt: now,
          expiresAt: now + policy.statusListLifetime * 1000,
          readAt: now,
        };
    lists.set(list, built);
    return built;
  }

  /** One building of a list at a time, however many ask. */
  function buildOnce(list: number): Promise<Built | undefined> {
    const running = building.get(list) ?? watched(build(list)).finally(() => building.delete(list));
    building.set(list, running);
    return running;
  }

  async function watched(work: Promise<Built | undefined>): Promise<Built | undefined> {
    const started = performance.now();
    try {
      const built = await work;
      if (built) watch.built((performance.now() - started) / 1000, built.document.body.length);
      return built;
    } catch (error) {
      watch.failed();
      throw error;
    }
  }

  async function find(list: number): Promise<Built | undefined> {
    const now = clock().getTime();
    const present = lists.get(list);
    if (present && now - present.readAt < policy.statusListMaxAge * 1000) return present;
    if (!present && list > known.count && now < known.until) return undefined;
    if (!present) return buildOnce(list);
    const built = buildOnce(list);
    if (now >= present.expiresAt) return built;
    // The database is away, or does not answer: an older list says more than none, and says itself how long it holds.
    const patience = setTimeout(policy.statusListPatience * 1000, present, { ref: false });
    return Promise.race([built.catch(() => present), patience]);
  }

  router.get('/oauth/status-lists/:list', async (ctx) => {
    const { list = '' } = ctx.params;
    // §8.4: the present list would be taken for one of the past.
    if (ctx.query.time !== undefined)
      throw new Problem({ status: 501, title: 'Not Implemented', detail: 'Former lists are not kept.' });
    const built = /^(0|[1-9]\d{0,8})$/.test(list) ? await find(Number(list)) : undefined;
    if (!built) throw notFound();
    const age = (clock().getTime() - built.readAt) / 1000;
    watch.served(age, age > policy.statusListMaxAge);
    writeDocument(ctx, built.document, 'application/statuslist+jwt', policy.statusListMaxAge);
  });
  return router;
}
