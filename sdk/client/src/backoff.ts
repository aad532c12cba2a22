/** In milliseconds. */
export const backoff = Object.freeze({
  /** The first pause is up to so long, and each later one up to twice the one before. */
  base: 500,
  ceiling: 10_000,
  /** No pause is shorter, so that chance alone cannot make a burst. */
  floor: 100,
  /** What a `Retry-After` may ask for: a mistyped one must not silence a client for a day. */
  retryAfterCap: 300_000,
});

/**
 * Full jitter: anything between nothing and a ceiling that doubles. A `Retry-After` is kept in full, and the jitter
 * comes on top, or all clients would come back in the same instant.
 *
 * @param failures how many attempts failed in a row, from 1
 * @param random in [0, 1)
 */
export function pauseAfter(failures: number, retryAfterMs: number | undefined, random: number): number {
  const ceiling = Math.min(backoff.ceiling, backoff.base * 2 ** Math.min(failures - 1, 30));
  const jitter = random * ceiling;
  if (retryAfterMs !== undefined) return retryAfterMs + jitter;
  return Math.max(backoff.floor, jitter);
}

const httpDate = /^[A-Z][a-z]+,? .+ GMT$/;

/**
 * `Retry-After` in milliseconds, capped (RFC 9110 §10.2.3: seconds or an HTTP date), or `undefined` where it says nothing
 * that can be used.
 *
 * @param now milliseconds of the calendar, for an answer without a `Date` of its own
 */
export function retryAfterOf(headers: Headers, now: number): number | undefined {
  const value = headers.get('retry-after')?.trim() ?? '';
  const ms = /^\d+$/.test(value) ? Number(value) * 1_000 : untilDate(value, headers.get('date'), now);
  return ms > 0 ? Math.min(ms, backoff.retryAfterCap) : undefined;
}

function untilDate(value: string, dateOfAnswer: string | null, now: number): number {
  if (!httpDate.test(value)) return 0;
  // By the server's own clock where it says it: this machine's may be minutes off.
  const from = dateOfAnswer !== null && httpDate.test(dateOfAnswer) ? Date.parse(dateOfAnswer) : now;
  return Date.parse(value) - from;
}
