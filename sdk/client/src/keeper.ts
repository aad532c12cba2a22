import { pauseAfter } from './backoff.ts';
import { abortable, withTimeout } from './clock.ts';
import { refusalError, safeCause, TemporaryError } from './errors.ts';
import { exchange, type Grant, type Outcome } from './exchange.ts';
import { checkPlatformToken, type Settings } from './options.ts';

/** Keeps one access token fresh, whatever the number of callers. */
export interface Keeper {
  /**
   * @throws {ExchangeRefusedError} the server refused; {@link DeadTokenError} where it is the platform token
   * @throws {TemporaryError} faults outlasted `maxWaitMs`
   * @throws the signal's reason
   */
  get(signal?: AbortSignal): Promise<Grant>;
  /** Gives up an access token that an API refused. Any other than the present one is left alone. */
  invalidate(accessToken: string): void;
}

interface Held {
  readonly grant: Grant;
  /** When its request was sent, by both clocks. */
  readonly since: { readonly now: number; readonly date: number };
  /** Ages in milliseconds. */
  readonly usableFor: number;
  renewAfter: number;
}

/** In milliseconds: how soon one invalidation may follow another, doubled for each up to the ceiling. */
const invalidationPause = { base: 1_000, ceiling: 60_000 };

/**
 * Nothing runs between calls: a call that finds the token old starts its renewal, and timers exist only while a caller
 * waits. So an idle source asks for nothing, and cannot keep a process alive.
 */
export function createKeeper(settings: Settings): Keeper {
  const { clock, random } = settings;
  let held: Held | undefined;
  let flight: Promise<Outcome> | undefined;
  let refusal: { readonly platformToken: string; readonly code: string; readonly until: number } | undefined;
  let failures = 0;
  let notBefore = Number.NEGATIVE_INFINITY;
  let lastFault = new Error('not yet tried');
  let invalidations = 0;
  let invalidatedAt = Number.NEGATIVE_INFINITY;

  // The later of two clocks: the monotonic one cannot be set back, the calendar goes on while a machine sleeps.
  const ageOf = ({ since }: Held) => Math.max(clock.now() - since.now, clock.date() - since.date);

  function usable(): Held | undefined {
    return held && ageOf(held) < held.usableFor ? held : undefined;
  }

  /** The one attempt that is under way, for all who want one. @throws {TypeError} the callback gave no token */
  function attempt(): Promise<Outcome> {
    flight ??= tryOnce().finally(() => {
      flight = undefined;
    });
    return flight;
  }

  async function tryOnce(): Promise<Outcome> {
    const read = await readPlatformToken();
    if ('cause' in read) return failed(read);
    const platformToken = checkPlatformToken(read.value);
    // Only what the callback gives now: another token than the refused one is tried at once.
    if (refusal?.platformToken === platformToken && clock.now() < refusal.until)
      return { kind: 'refused', code: refusal.code };
    const since = { now: clock.now(), date: clock.date() };
    const outcome = await exchange(settings, platformToken);
    if (outcome.kind === 'fault') return failed(outcome);
    if (outcome.kind === 'granted') {
      const next = hold(outcome.grant, since, random());
      // Without this, an answer that is slower than its token lives would be asked for again without a pause.
      if (ageOf(next) >= next.usableFor)
        return failed(faultOf('the access token had ended before it arrived'));
      held = next;
    }
    refusal =
      outcome.kind === 'refused'
        ? { platformToken, code: outcome.code, until: clock.now() + settings.deadTokenHoldMs }
        : undefined;
    failures = 0;
    return outcome;
  }

  /** A callback that throws or hangs passes: it may ask a vault. */
  async function readPlatformToken(): Promise<{ value: unknown } | (Outcome & { kind: 'fault' })> {
    try {
      return {
        value: await withTimeout(clock, settings.requestTimeoutMs, () => settings.readPlatformToken()),
      };
    } catch (error) {
      return faultOf(`the platform token could not be read: ${safeCause(error).message}`);
    }
  }

  function failed(outcome: Outcome & { kind: 'fault' }): Outcome {
    failures += 1;
    notBefore = clock.now() + pauseAfter(failures, outcome.retryAfterMs, random());
    lastFault = outcome.cause;
    return outcome;
  }

  /** One attempt while the token in hand is good: nobody waits for it, and no timer goes on after it. */
  async function renew(old: Held): Promise<void> {
    try {
      const outcome = await attempt();
      if (outcome.kind === 'fault') report(temporary());
      if (outcome.kind === 'refused') {
        // Not at every call: the callback may be a request to a vault.
        old.renewAfter = ageOf(old) + settings.deadTokenHoldMs;
        report(refusalError(outcome.code));
      }
    } catch (error) {
      old.renewAfter = ageOf(old) + settings.deadTokenHoldMs;
      report(error as TypeError);
    }
  }

  function report(error: Parameters<Settings['onRenewalFailed']>[0]): void {
    try {
      settings.onRenewalFailed(error);
    } catch {
      // Whoever listens must not break what they listen to.
    }
  }

  let renewing = false;
  function renewWhenDue(current: Held): void {
    if (renewing || ageOf(current) < current.renewAfter || clock.now() < notBefore) return;
    renewing = true;
    void renew(current).finally(() => {
      renewing = false;
    });
  }

  const temporary = () => new TemporaryError(lastFault, Math.max(0, notBefore - clock.now()));

  async function waitForOne(signal: AbortSignal | undefined): Promise<Grant> {
    const deadline = clock.now() + settings.maxWaitMs;
    for (;;) {
      signal?.throwIfAborted();
      const current = usable();
      if (current) return current.grant;
      const pause = notBefore - clock.now();
      if (pause > 0) {
        // Nothing can happen before the deadline: it is told now.
        if (clock.now() + pause > deadline) throw temporary();
        await clock.sleep(pause, signal);
        continue;
      }
      const outcome = await withDeadline(attempt(), deadline, signal);
      if (outcome.kind === 'refused') throw refusalError(outcome.code);
      // Not from `held`: a token that lives for a second may have ended before all who waited have it.
      if (outcome.kind === 'granted') return outcome.grant;
    }
  }

  async function withDeadline(
    attempted: Promise<Outcome>,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<Outcome> {
    const done = new AbortController();
    const late = clock.sleep(Math.max(0, deadline - clock.now()), done.signal).then(() => {
      const cause = failures > 0 ? lastFault : new Error('the token endpoint has not answered yet');
      throw new TemporaryError(cause, 0);
    });
    try {
      return await abortable(Promise.race([attempted, late]), signal);
    } finally {
      late.catch(() => {});
      done.abort();
    }
  }

  return {
    async get(signal) {
      signal?.throwIfAborted();
      const current = usable();
      if (!current) return waitForOne(signal);
      renewWhenDue(current);
      return current.grant;
    },
    invalidate(accessToken) {
      if (held?.grant.accessToken !== accessToken) return;
      // An API that refuses every token, a wrong audience for one, must not become a storm of exchanges.
      const { base, ceiling } = invalidationPause;
      const since = clock.now() - invalidatedAt;
      if (since < Math.min(ceiling, base * 2 ** (invalidations - 1))) return;
      invalidations = since < 2 * ceiling ? Math.min(invalidations + 1, 30) : 1;
      invalidatedAt = clock.now();
      held = undefined;
    },
  };
}

function faultOf(message: string): Outcome & { kind: 'fault' } {
  return { kind: 'fault', cause: new Error(message), retryAfterMs: undefined };
}

/** Renewed at 80 to 90 % of its life, so that many sources do not come at once; given out to 95 %, or 10 s before its end. */
function hold(grant: Grant, since: Held['since'], random: number): Held {
  const life = grant.expiresIn * 1_000;
  return {
    grant,
    since,
    usableFor: life - Math.min(10_000, life * 0.05),
    renewAfter: life * (0.8 + 0.1 * random),
  };
}
