import { Agent, type IncomingHttpHeaders, request } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import type { Instance } from './instance.ts';

/** What was acknowledged, to be held against the database afterwards. */
export interface Ledger {
  /** Every token that was shown: its id, and its secret. */
  readonly created: Map<string, string>;
  /** Ids whose revocation was answered with 204. */
  readonly revoked: Set<string>;
  /** Ids whose revocation was asked for and not answered: it may have happened. */
  readonly uncertain: Set<string>;
  /** Names of tokens whose creation was cut off together with its instance: nobody can be told of those. */
  readonly cutCreations: Set<string>;
}

/** What came of the requests since the last time it was taken. */
export interface Tally {
  requests: number;
  good: number;
  refused: number;
  /** Connections that ended with the instance that we ended. */
  cut: number;
  readonly wrong: string[];
  /** Of all answers, in ms. */
  longest: number;
  /** When something was last not good, by `performance.now()`. */
  lastFailure: number;
}

const emptyTally = (): Tally => ({
  requests: 0,
  good: 0,
  refused: 0,
  cut: 0,
  wrong: [],
  longest: 0,
  lastFailure: 0,
});

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

export interface LoadDeps {
  readonly instances: readonly Instance[];
  readonly adminToken: string;
  readonly organizationId: string;
  readonly service: string;
  /** A user for each client: each may have twenty tokens. */
  readonly users: readonly string[];
}

const grant = 'urn:ietf:params:oauth:grant-type:token-exchange';
const pauseMs = 8;
const limitMs = 20_000;
const keptTokens = 8;

type Load = ReturnType<typeof startLoad>;

export type { Load };

/** Clients that do all that there is to do, one request after the other, against both instances, until they are told to stop. */
export function startLoad({ instances, adminToken, organizationId, service, users }: LoadDeps) {
  const ledger: Ledger = {
    created: new Map(),
    revoked: new Set(),
    uncertain: new Set(),
    cutCreations: new Set(),
  };
  let tally = emptyTally();
  /** When they began. */
  const underWay = new Set<number>();
  let over = false;
  let serial = 0;

  function send(
    agent: Agent,
    instance: Instance,
    method: string,
    path: string,
    type?: string,
    body = '',
  ): Promise<Answer> {
    const headers = {
      ...(type === 'form' ? { 'content-type': 'application/x-www-form-urlencoded' } : {}),
      ...(type === 'json' ? { 'content-type': 'application/json' } : {}),
      ...(path.startsWith('/admin') ? { authorization: `Bearer ${adminToken}` } : {}),
    };
    return new Promise((resolve, reject) => {
      const sent = request(instance.url + path, { method, agent, headers, timeout: limitMs }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text }),
        );
      });
      sent.on('timeout', () => sent.destroy(new Error(`no answer within ${limitMs / 1000} s`)));
      sent.on('error', reject);
      sent.end(body);
    });
  }

  type Result = 'good' | 'refused' | 'cut' | 'wrong';

  /** @returns the answer where it is what was expected */
  async function ask(
    agent: Agent,
    instance: Instance,
    expected: (answer: Answer) => boolean,
    ...what: [method: string, path: string, type?: 'form' | 'json', body?: string]
  ): Promise<{ readonly result: Result; readonly answer?: Answer }> {
    const started = performance.now();
    underWay.add(started);
    const fail = (result: Result, why?: string) => {
      tally.requests += 1;
      tally.lastFailure = performance.now();
      if (why !== undefined) tally.wrong.push(`${what[0]} ${what[1]} at ${instance.name}: ${why}`);
      return { result };
    };
    try {
      const answer = await send(agent, instance, ...what);
      // As a balancer does: one that is going gets nothing more. One that sheds load closes the connection too.
      if (answer.headers.connection === 'close' && answer.status !== 503) instance.leave();
      tally.longest = Math.max(tally.longest, performance.now() - started);
      if (expected(answer)) {
        tally.requests += 1;
        tally.good += 1;
        return { result: 'good', answer };
      }
      if ((answer.status === 503 || answer.status === 429) && Number(answer.headers['retry-after']) > 0) {
        tally.refused += 1;
        return fail('refused');
      }
      return fail('wrong', `${answer.status} ${answer.text.slice(0, 200)}`);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (instance.down()) {
        tally.cut += 1;
        return fail('cut');
      }
      return fail('wrong', code ?? message);
    } finally {
      underWay.delete(started);
    }
  }

  const exchangeForm = (token: string) =>
    new URLSearchParams({ grant_type: grant, subject_token: token }).toString();
  const isToken = ({ status, text }: Answer) => status === 200 && text.includes('"access_token":"');
  const isRefusal = ({ status, text }: Answer) =>
    status === 400 &&
    text.includes('"error":"invalid_request"') &&
    text.includes('subject_token is not valid');

  async function client(index: number): Promise<void> {
    const home = instances[index % instances.length] as Instance;
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const away = new Agent({ keepAlive: true, maxSockets: 1 });
    const own: string[] = [];
    const gone: string[] = [];
    for (let turn = index; !over; turn += 1) {
      if (home.left()) {
        await setTimeout(50);
        continue;
      }
      const live = own[turn % Math.max(1, own.length)];
      const dead = gone[turn % Math.max(1, gone.length)];
      const kind = turn % 20;
      if (own.length < keptTokens && kind % 3 === 0) {
        const name = `load-${serial++}`;
        const body = JSON.stringify({
          name,
          service,
          organization_id: organizationId,
          user_id: users[index],
        });
        const { result, answer } = await ask(
          agent,
          home,
          ({ status }) => status === 201,
          'POST',
          '/admin/tokens',
          'json',
          body,
        );
        if (result === 'cut') ledger.cutCreations.add(name);
        if (answer) {
          const { id, token } = JSON.parse(answer.text) as { id: string; token: string };
          ledger.created.set(id, token);
          own.push(id);
        }
      } else if (own.length >= keptTokens && kind === 1) {
        const id = own.shift() as string;
        const { result } = await ask(
          agent,
          home,
          ({ status }) => status === 204,
          'DELETE',
          `/admin/tokens/${id}`,
        );
        if (result === 'good') {
          ledger.revoked.add(id);
          gone.push(id);
        } else ledger.uncertain.add(id);
      } else if (kind === 2) {
        await ask(
          agent,
          home,
          ({ status }) => status === 200,
          'GET',
          `/admin/tokens?user_id=${users[index]}&limit=20`,
        );
      } else if (kind === 4)
        await ask(agent, home, ({ status }) => status === 200, 'GET', '/oauth/status-lists/0');
      else if (kind === 5) await ask(agent, home, ({ status }) => status === 200, 'GET', '/oauth/jwks');
      else if (kind === 7)
        await ask(
          agent,
          home,
          ({ status }) => status === 200,
          'GET',
          '/.well-known/oauth-authorization-server',
        );
      else if (dead && kind % 4 === 0) {
        // At the other instance too: what was revoked at one is revoked at all.
        const other = instances[turn % instances.length] as Instance;
        const to = other.left() ? home : other;
        const form = exchangeForm(String(ledger.created.get(dead)));
        const elsewhere = to === home ? agent : away;
        await ask(elsewhere, to, isRefusal, 'POST', '/oauth/token', 'form', form);
      } else if (live) {
        const form = exchangeForm(String(ledger.created.get(live)));
        await ask(agent, home, isToken, 'POST', '/oauth/token', 'form', form);
      }
      await setTimeout(pauseMs);
    }
    agent.destroy();
    away.destroy();
  }

  const done = Promise.all(users.map((_, index) => client(index)));
  return {
    ledger,
    /** What came since the last time. */
    take(): Tally {
      const taken = tally;
      tally = emptyTally();
      return taken;
    },
    present: () => tally,
    /** Whether a request is under way that began before then. */
    waitsSince: (then: number) => [...underWay].some((began) => began < then),
    async stop() {
      over = true;
      await done;
    },
  };
}
