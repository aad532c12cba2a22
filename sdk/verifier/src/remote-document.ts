export interface RemoteDocumentOptions<T> {
  readonly url: string;
  readonly accept: string;
  /** Milliseconds since the epoch. */
  readonly clock: () => number;
  readonly fetch: typeof fetch;
  /** How long one request may take, in milliseconds. */
  readonly timeout: number;
  /** Longest body that is read, in bytes. */
  readonly sizeLimit: number;
  /** @throws where the body is not what it should be: it replaces nothing then */
  parse(body: string): Promise<T>;
  /** How long a copy is fresh, and how long it may be used while the issuer is away: both in seconds from now. */
  lifetime(value: T, headers: Headers): { readonly fresh: number; readonly usable: number };
}

export interface RemoteDocument<T> {
  /** The copy, asking the issuer first where it is no longer fresh. @throws {DocumentUnavailable} where none may be used */
  get(): Promise<T>;
  /** Asks the issuer now, or joins those who are asking. @throws what went wrong, now or a moment ago; the copy stays */
  refresh(): Promise<T>;
  /** The copy however old, for what may only be refused by it. */
  peek(): T | undefined;
  /** Whether the last request failed. */
  failed(): boolean;
}

/** There is no copy that may be used. `answered` tells an issuer that sent something unusable from one that is away. */
export class DocumentUnavailable extends Error {
  readonly answered: boolean;

  constructor(message: string, answered: boolean, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.answered = answered;
  }
}

interface Copy<T> {
  readonly value: T;
  readonly etag: string | null;
  /** Milliseconds since the epoch. */
  readonly askedAt: number;
  readonly refreshAt: number;
  readonly freshUntil: number;
  readonly usableUntil: number;
}

/** Where in its fresh time a copy is replaced in the background. */
const refreshPoint = 0.75;
/** Pause after a failure, in milliseconds: doubled by each, up to the second. */
const firstPause = 1_000;
const longestPause = 30_000;

/**
 * One document of the issuer, kept: one request at a time however many ask; a conditional one where there is an entity tag
 * (RFC 9110 §13.1.2); in the background once three quarters of the fresh time are over.
 */
export function createRemoteDocument<T>(options: RemoteDocumentOptions<T>): RemoteDocument<T> {
  const { url, accept, clock, timeout, sizeLimit } = options;
  let copy: Copy<T> | undefined;
  let flight: Promise<T> | undefined;
  let failures = 0;
  let lastError: unknown;
  let failedAt = Number.NEGATIVE_INFINITY;

  async function request(signal: AbortSignal): Promise<Copy<T>> {
    const askedAt = clock();
    const response = await options.fetch(url, {
      headers: { accept, ...(copy?.etag ? { 'if-none-match': copy.etag } : {}) },
      // Documents of the issuer are where it says, and nowhere else. Not 'error', which Cloudflare does not know.
      redirect: 'manual',
      signal,
    });
    if (response.status === 304 && copy) return toCopy(copy.value, copy.etag, response.headers, askedAt);
    if (response.status !== 200) {
      await response.body?.cancel();
      const answered = response.status < 500 && response.status !== 429;
      throw new DocumentUnavailable(`${url} answered ${response.status}`, answered);
    }
    const body = await readText(response, sizeLimit);
    let value: T;
    try {
      value = await options.parse(body);
    } catch (error) {
      // The keys that it is checked by may be what cannot be had.
      const answered = !(error instanceof DocumentUnavailable) || error.answered;
      throw new DocumentUnavailable(`${url} is not what it should be`, answered, error);
    }
    return toCopy(value, response.headers.get('etag'), response.headers, askedAt);
  }

  /** Times count from before the request: what it answers may be as old as that. */
  function toCopy(value: T, etag: string | null, headers: Headers, askedAt: number): Copy<T> {
    const { fresh, usable } = options.lifetime(value, headers);
    if (usable <= 0) {
      // Not modified, and over: the next request asks for it whole.
      if (copy) copy = { ...copy, etag: null };
      throw new DocumentUnavailable(`${url} expired`, true);
    }
    return {
      value,
      etag,
      askedAt,
      refreshAt: askedAt + fresh * refreshPoint * 1000,
      freshUntil: askedAt + fresh * 1000,
      usableUntil: askedAt + usable * 1000,
    };
  }

  async function fly(): Promise<T> {
    try {
      copy = await withTimeout(timeout, request);
      failures = 0;
      return copy.value;
    } catch (error) {
      lastError = error;
      failedAt = clock();
      failures += 1;
      throw error;
    }
  }

  const isPaused = (): boolean =>
    failures > 0 && isWithin(failedAt, clock(), Math.min(firstPause * 2 ** (failures - 1), longestPause));

  function refresh(): Promise<T> {
    if (flight) return flight;
    if (isPaused()) return Promise.reject(lastError);
    const started = fly().finally(() => {
      if (flight === started) flight = undefined;
    });
    // Workers there must not wait for what another request has begun: each asks for itself until there is a copy.
    if (!isCloudflareWorker()) flight = started;
    return started;
  }

  function refreshInBackground(): void {
    if (isPaused() || flight) return;
    // Once a second at most: what runs behind an answer may be cut off with it, and is in no flight then.
    if (copy) copy = { ...copy, refreshAt: clock() + firstPause };
    refresh().catch(() => {});
  }

  async function get(): Promise<T> {
    const now = clock();
    if (copy && isWithin(copy.askedAt, now, copy.freshUntil - copy.askedAt)) {
      if (now >= copy.refreshAt) refreshInBackground();
      return copy.value;
    }
    const usable = copy && now < copy.usableUntil ? copy : undefined;
    if (usable && failures > 0) {
      // The issuer was away at the last attempt: callers need not wait for the next.
      refreshInBackground();
      return usable.value;
    }
    try {
      return await refresh();
    } catch (error) {
      if (usable) return usable.value;
      const answered = error instanceof DocumentUnavailable && error.answered;
      throw new DocumentUnavailable(`${url} cannot be had`, answered, error);
    }
  }

  return { get, refresh, peek: () => copy?.value, failed: () => failures > 0 };
}

/** Whether so many milliseconds are not over yet. A clock that was set back since cannot say: they are, or they might last for hours. */
export const isWithin = (since: number, now: number, ms: number): boolean => now >= since && now - since < ms;

/** @param work gets a signal, and need not heed it: who waits, and who asks next, must not hang on the `fetch` in use */
async function withTimeout<T>(ms: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const signal = AbortSignal.timeout(ms);
  let onAbort = (): void => {};
  const late = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort);
  });
  try {
    return await Promise.race([work(signal), late]);
  } finally {
    // Deno keeps a process for a timeout that somebody listens to.
    signal.removeEventListener('abort', onAbort);
  }
}

/** @returns `max-age` less `Age`, in seconds (RFC 9111 §4.2); 0 for `no-cache` and `no-store`; undefined where not said */
export function readFreshness(headers: Headers): number | undefined {
  const control = headers.get('cache-control') ?? '';
  if (/(?:^|[,\s])no-(?:cache|store)(?:$|[,\s])/i.test(control)) return 0;
  const maxAge = /(?:^|[,\s])max-age="?(\d{1,9})/i.exec(control)?.[1];
  return maxAge === undefined ? undefined : Math.max(0, Number(maxAge) - readAge(headers));
}

/** Seconds that the answer has been in caches on the way. */
export const readAge = (headers: Headers): number =>
  Number(/^\d{1,9}$/.exec(headers.get('age') ?? '')?.[0] ?? 0);

async function readText(response: Response, sizeLimit: number): Promise<string> {
  if (!response.body) return '';
  return new TextDecoder().decode(await readBytes(response.body, sizeLimit));
}

/** All of a stream. @throws {RangeError} where it is longer than the limit, in bytes, of which no more is kept */
export async function readBytes(
  stream: ReadableStream<Uint8Array>,
  limit: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const reader = stream.getReader();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.byteLength;
    if (size > limit) {
      await reader.cancel();
      throw new RangeError(`longer than ${limit} bytes`);
    }
    chunks.push(value);
  }
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes;
}

/** Where a promise of one request is nothing that another may wait for. */
export const isCloudflareWorker = (): boolean => globalThis.navigator?.userAgent === 'Cloudflare-Workers';
