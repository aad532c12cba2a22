import { createPublicKey, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { policy } from '../../config/policy.ts';

export interface GitHubKeysDeps {
  readonly url: string;
  readonly clock: () => Date;
  readonly fetch?: typeof fetch | undefined;
  readonly onError: (error: unknown) => void;
}

/** The keys that GitHub signs its reports with. */
export interface GitHubKeys {
  /**
   * @returns undefined where GitHub has no such key
   * @throws GitHubKeysError where that cannot be found out now
   */
  find(identifier: string): Promise<KeyObject | undefined>;
}

/** GitHub's keys are out of reach, or are not what they should be. */
export class GitHubKeysError extends Error {}

interface Fetched {
  readonly keys: ReadonlyMap<string, KeyObject>;
  readonly etag: string | null;
  readonly fetchedAt: number;
  readonly freshUntil: number;
}

const keysSchema = z.object({
  public_keys: z.array(z.object({ key_identifier: z.string(), key: z.string() })).max(100),
});

/**
 * Fetches at most once at a time, and no more often than the cool-downs allow, whatever callers send: they are nobody yet.
 * Where GitHub is away, what was fetched in the last day goes on serving.
 */
export function createGitHubKeys({ url, clock, fetch: send = fetch, onError }: GitHubKeysDeps): GitHubKeys {
  let present: Fetched | undefined;
  let underWay: Promise<void> | undefined;
  let failedAt = Number.NEGATIVE_INFINITY;
  const now = () => clock().getTime();

  async function refresh(): Promise<void> {
    // Where there are keys, a failure is no reason to hurry.
    const pause = present ? policy.githubKeysCoolDown : policy.githubKeysRetry;
    if (now() - failedAt < pause * 1000) return;
    try {
      present = await fetchKeys(send, url, present, now());
    } catch (error) {
      failedAt = now();
      onError(error);
    }
  }

  const refreshOnce = () => {
    underWay ??= refresh().finally(() => {
      underWay = undefined;
    });
    return underWay;
  };

  return {
    async find(identifier) {
      if (!present || now() >= present.freshUntil) await refreshOnce();
      if (!present?.keys.has(identifier) && isCool(present)) await refreshOnce();
      const key = present?.keys.get(identifier);
      const tooOld = now() - policy.githubKeysStale * 1000;
      // What is not among the last keys may be among the present ones.
      if (!present || present.fetchedAt < tooOld || (!key && failedAt > present.fetchedAt))
        throw new GitHubKeysError('the keys of GitHub are out of reach');
      return key;
    },
  };

  /** An unknown identifier may be that of a new key, but not again and again. */
  function isCool(fetched: Fetched | undefined): boolean {
    return fetched !== undefined && now() - fetched.fetchedAt >= policy.githubKeysCoolDown * 1000;
  }
}

async function fetchKeys(
  send: typeof fetch,
  url: string,
  before: Fetched | undefined,
  now: number,
): Promise<Fetched> {
  const response = await send(url, {
    headers: {
      accept: 'application/json',
      'user-agent': 'platform-tokens',
      ...(before?.etag ? { 'if-none-match': before.etag } : {}),
    },
    redirect: 'error',
    signal: AbortSignal.timeout(policy.githubKeysTimeout * 1000),
  });
  const times = { fetchedAt: now, freshUntil: now + lifetime(response.headers) * 1000 };
  if (response.status === 304 && before) {
    await response.body?.cancel();
    return { ...before, ...times };
  }
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new GitHubKeysError(`GitHub's keys: status ${response.status}`);
  }
  const document = keysSchema.parse(JSON.parse(await readLimited(response)));
  return { keys: readKeys(document.public_keys), etag: response.headers.get('etag'), ...times };
}

/** RFC 9111 §4.2.1, within bounds of our own. */
function lifetime(headers: Headers): number {
  const maxAge = /(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])/i.exec(headers.get('cache-control') ?? '')?.[1];
  return Math.min(Math.max(Number(maxAge ?? 0), policy.githubKeysCoolDown), policy.githubKeysMaxAge);
}

async function readLimited(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    if (size > policy.githubKeysLimit) throw new GitHubKeysError("GitHub's keys: the document is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** Those on P-256: GitHub signs with ECDSA-NIST-P256V1-SHA256 alone. */
function readKeys(listed: z.infer<typeof keysSchema>['public_keys']): Map<string, KeyObject> {
  const keys = new Map<string, KeyObject>();
  for (const { key_identifier: identifier, key: pem } of listed) {
    try {
      const key = createPublicKey(pem);
      if (key.asymmetricKeyDetails?.namedCurve === 'prime256v1') keys.set(identifier, key);
    } catch {
      // A key of a kind that Node does not read: not one of those that sign here.
    }
  }
  return keys;
}
