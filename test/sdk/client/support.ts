import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Clock, FetchLike } from '../../../sdk/client/src/index.ts';

export const secret = `ptk_${'s3cr3T'.repeat(8)}0`;
export const endpoint = 'https://id.example.com/oauth/token';

/** Lets everything run that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

export interface FakeClock extends Clock {
  advance(ms: number): Promise<void>;
  /** How many timers there are. */
  sleepers(): number;
  /** The machine sleeps: the calendar goes on, the monotonic clock does not. */
  suspend(ms: number): void;
}

export function createFakeClock(): FakeClock {
  let now = 1_000;
  let date = Date.UTC(2030, 0, 1);
  const sleepers = new Set<{ at: number; wake: () => void }>();
  return {
    now: () => now,
    date: () => date,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason);
        const sleeper = { at: now + ms, wake: resolve };
        sleepers.add(sleeper);
        signal?.addEventListener('abort', () => {
          sleepers.delete(sleeper);
          reject(signal.reason);
        });
      }),
    async advance(ms) {
      const end = now + ms;
      await settle();
      for (;;) {
        const due = [...sleepers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
        const step = (due?.at ?? end) - now;
        now += step;
        date += step;
        if (!due) break;
        for (const sleeper of [...sleepers].filter(({ at }) => at <= now)) {
          sleepers.delete(sleeper);
          sleeper.wake();
        }
        await settle();
      }
      await settle();
    },
    sleepers: () => sleepers.size,
    suspend(ms) {
      date += ms;
    },
  };
}

export type Answer = () => Response | Promise<Response>;

/** A token endpoint that answers from a script, the last line of it again and again. */
export function createEndpoint(clock: Clock, ...script: Answer[]) {
  const requests: { at: number; form: URLSearchParams; init: RequestInit }[] = [];
  const fetch: FetchLike = async (_input, init = {}) => {
    requests.push({ at: clock.now(), form: new URLSearchParams(String(init.body)), init });
    const answer = script.length > 1 ? script.shift() : script[0];
    if (!answer) throw new Error('no answer is left');
    return answer();
  };
  return { fetch, requests };
}

let serial = 0;
export const granted =
  (expiresIn: number, more: Record<string, unknown> = {}): Answer =>
  () => {
    serial += 1;
    return Response.json({
      access_token: `eyJ.access.${serial}`,
      issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      token_type: 'Bearer',
      expires_in: expiresIn,
      scope: 'read',
      ...more,
    });
  };
export const refused =
  (error = 'invalid_request'): Answer =>
  () =>
    Response.json({ error }, { status: 400 });
export const busy =
  (status = 503, headers: Record<string, string> = {}): Answer =>
  () =>
    new Response('busy', { status, headers });
export const unreachable: Answer = () => {
  throw new TypeError('fetch failed', {
    cause: Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:1'), { code: 'ECONNREFUSED' }),
  });
};

/** An HTTP server on a port of its own. */
export async function listen(listener: RequestListener) {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
