import { setTimeout } from 'node:timers/promises';
import fc from 'fast-check';
import { policy } from '../../config/policy.ts';
import type { Answer } from './answers.ts';
import { type Connection, createRawSender, openConnection } from './connection.ts';
import { edgeOf, isShed, Violation, verifyAnswer } from './invariants.ts';
import { createMutants, type Mutant } from './mutations.ts';
import { createRequests, type FuzzRequest, serialize } from './requests.ts';
import type { Scene } from './scene.ts';
import { partsOfJwt, type SecretScanner } from './secrets.ts';
import type { FuzzedServer, Measure } from './server.ts';
import type { Route } from './surface.ts';

export interface FuzzDeps {
  readonly server: FuzzedServer;
  readonly scene: Scene;
  readonly surface: readonly Route[];
  readonly scanner: SecretScanner;
  /** What the server has printed since the last call. */
  readonly takeLogs: () => Buffer;
  readonly seed: number;
  /** How many to send at least. */
  readonly requests: number;
  readonly onRound: (text: string) => void;
}

export interface FuzzReport {
  /** Answered, of whole requests. */
  answered: number;
  /** Connections with bytes that were no whole request, answered or not. */
  mutants: number;
  /** Of these, how many the server answered, closed without a word, or left for us to end. */
  readonly mutantsEnded: Record<'answered' | 'closed' | 'cut', number>;
  /** By route and status. */
  readonly statuses: Map<string, Map<number, number>>;
  readonly mutantStatuses: Map<number, number>;
  readonly descriptions: Set<string>;
  readonly measures: Measure[];
  /** Sent again, as the machine was busy. */
  shed: number;
  slowest: { ms: number; what: string };
  logBytes: number;
}

/** Requests of a round. After each the scene is restored and the server measured. */
const round = 5_000;
/** For how long a failure is reduced to what it needs. */
const reductionMs = 60_000;
const lanes = 6;
const mutantLanes = 12;
const batch = 16;
const { pipelined } = policy.connections;

/**
 * Fuzzes until so many requests are sent.
 * @throws with the seed, and the requests that are left when fast-check has taken away what does not matter
 */
export async function fuzz(deps: FuzzDeps): Promise<FuzzReport> {
  const { server, scene, surface, scanner, takeLogs, seed, onRound } = deps;
  const report: FuzzReport = {
    answered: 0,
    mutants: 0,
    mutantsEnded: { answered: 0, closed: 0, cut: 0 },
    statuses: new Map(),
    mutantStatuses: new Map(),
    descriptions: new Set(),
    measures: [],
    shed: 0,
    slowest: { ms: 0, what: '' },
    logBytes: 0,
  };
  const requests = createRequests(scene, surface);
  const mutants = createMutants(requests);
  const sendRaw = createRawSender(server.port);
  let errorBodies: Buffer[] = [];
  let logRest = Buffer.alloc(0);

  function keepError({ status, head, body }: Answer): void {
    if (status < 400) return;
    // A cookie goes where it belongs, whatever the status.
    errorBodies.push(Buffer.from(head.replace(/^set-cookie:.*$/gim, ''), 'latin1'), withoutTyped(body));
    const description = /"error_description":"((?:[^"\\]|\\.)*)"/.exec(body.toString('latin1'))?.[1];
    if (description !== undefined) report.descriptions.add(description);
  }

  async function waitShed(): Promise<void> {
    report.shed += 1;
    await setTimeout(500);
  }

  /** Answers to whole requests, in groups over one connection. */
  async function sendBatch(
    requests: readonly FuzzRequest[],
    holder: { connection?: Connection },
  ): Promise<void> {
    for (let from = 0, length = 0; from < requests.length; from += length) {
      const group = requests.slice(from, from + pipelined);
      length = group.length;
      if (!holder.connection?.open()) holder.connection = await openConnection(server.port);
      const started = performance.now();
      const answers = await holder.connection.send(
        Buffer.concat(group.map(serialize)),
        group.map(({ method }) => method),
      );
      const ms = performance.now() - started;
      if (ms > report.slowest.ms)
        report.slowest = { ms, what: group.map(describe).join('\n').slice(0, 2000) };
      for (const [index, answer] of answers.entries()) {
        if (isShed(answer)) {
          await waitShed();
          length = index;
          break;
        }
        const request = group[index] as FuzzRequest;
        report.answered += 1;
        count(report.statuses, request.route, answer.status);
        learn(scene, scanner, answer);
        keepError(answer);
        const bodiless = request.method === 'HEAD';
        verifyAnswer(answer, edgeOf(request.target), { canary: scene.canary, bodiless });
      }
    }
  }

  async function sendMutants(list: readonly Mutant[]): Promise<void> {
    await Promise.all(
      list.map(async ({ bytes }) => {
        const bodiless = bytes.includes('HEAD');
        const { answers, ended } = await sendRaw(bytes, bodiless);
        report.mutants += 1;
        report.mutantsEnded[answers.length > 0 ? 'answered' : ended === 'cut' ? 'cut' : 'closed'] += 1;
        for (const answer of answers) {
          if (isShed(answer)) {
            await waitShed();
            continue;
          }
          report.mutantStatuses.set(answer.status, (report.mutantStatuses.get(answer.status) ?? 0) + 1);
          learn(scene, scanner, answer);
          keepError(answer);
          verifyAnswer(answer, 'any', { canary: scene.canary, bodiless });
        }
      }),
    );
  }

  async function lane(number: number, runs: number, laneSeed: number): Promise<void> {
    const holder: { connection?: Connection } = {};
    let failedAt: number | undefined;
    /** Says at once what failed: to reduce it takes its time, and a run that is ended meanwhile would not have said it. */
    const check = async <T>(list: T[], send: (list: T[]) => Promise<void>): Promise<void> => {
      // What is not tried again counts as passed, so what was found last is what is left.
      if (failedAt !== undefined && performance.now() - failedAt > reductionMs) return;
      try {
        await send(list);
      } catch (error) {
        if (failedAt === undefined) onRound(`lane ${number} (${laneSeed}): ${String(error).slice(0, 2_000)}`);
        failedAt ??= performance.now();
        throw error;
      }
    };
    const size = { minLength: 1, maxLength: batch, size: 'max' } as const;
    const property =
      number < lanes
        ? fc.asyncProperty(fc.array(requests, size), (list) =>
            check(list, async () => {
              try {
                await sendBatch(list, holder);
              } catch (error) {
                // What else is on its way belongs to none of the requests that come next.
                holder.connection?.close();
                delete holder.connection;
                throw error;
              }
            }),
          )
        : fc.asyncProperty(fc.array(mutants, size), (list) => check(list, sendMutants));
    const result = await fc.check(property as fc.IAsyncProperty<[(FuzzRequest | Mutant)[]]>, {
      seed: laneSeed,
      numRuns: runs,
      // Small numbers more often would be the first of each list more often.
      unbiased: true,
    });
    holder.connection?.close();
    if (!result.failed) return;
    const left = (result.counterexample?.[0] ?? []).map((one) =>
      'bytes' in one ? describeMutant(one) : describe(one),
    );
    const cause = result.errorInstance;
    throw new Violation(
      `${cause instanceof Error ? cause.message : String(cause)}\n\nseed ${seed}, lane ${number} (${laneSeed}), after ${result.numShrinks} reductions:\n${left.join('\n---\n')}`,
      { cause },
    );
  }

  function addSecrets(): void {
    for (const [kind, secret] of scene.secrets()) scanner.add(kind, secret);
  }

  /** Nothing of any secret in what the server printed, in what it refused with, and in its metrics. */
  async function scanForSecrets(): Promise<void> {
    addSecrets();
    // The server's log leaves every fifth of a second.
    await setTimeout(300);
    const logs = Buffer.concat([logRest, takeLogs()]);
    report.logBytes += logs.length - logRest.length;
    // What was cut between two readings is read again whole.
    logRest = Buffer.from(logs.subarray(-4096));
    const found = [
      ...scanner.scan(logs).map((leak) => ({ ...leak, where: 'log' })),
      ...scanner
        .scan(Buffer.concat(errorBodies.flatMap((body) => [body, separator])))
        .map((leak) => ({ ...leak, where: 'error' })),
      ...scanner.scan(await readMetrics()).map((leak) => ({ ...leak, where: 'metrics' })),
    ];
    errorBodies = [];
    // What later requests present is the scene's; of what was given away before, the log has been searched.
    scanner.clear();
    addSecrets();
    const [first] = found;
    if (first)
      throw new Violation(
        `${found.length} secrets found; a ${first.kind} in the ${first.where}: …${first.around}`,
      );
    const text = logs.toString('latin1');
    const shape = /ptk_[0-9A-Za-z]{40}|eyJ[\w-]{20,}\.[\w-]{20,}/.exec(text);
    if (shape)
      throw new Violation(
        `what looks like a secret in the log: …${text.slice(Math.max(0, shape.index - 200), shape.index)}`,
      );
    const unexpected = /"level":(50|60)[^\n]*/.exec(text)?.[0];
    if (unexpected) throw new Violation(`the log has an error: ${unexpected.slice(0, 2000)}`);
  }

  const runsOf = (target: number, over: number) => Math.max(1, Math.round(target / over / ((batch + 1) / 2)));
  for (let number = 0; report.answered + report.mutants < deps.requests; number += 1) {
    const left = Math.min(round, deps.requests - report.answered - report.mutants);
    await scene.restore();
    await scene.signIn((route, status) => {
      report.answered += 1;
      count(report.statuses, route, status);
    });
    const done = await Promise.allSettled(
      Array.from({ length: lanes + mutantLanes }, (_, index) => {
        const share = index < lanes ? runsOf(left * 0.75, lanes) : runsOf(left * 0.25, mutantLanes);
        return lane(index, share, (seed + number * 7919 + index * 104_729) | 0);
      }),
    );
    server.alive();
    const failed = done.flatMap((result) => (result.status === 'rejected' ? [String(result.reason)] : []));
    if (failed.length > 0)
      throw new Violation(failed.map((text) => text.slice(0, 6_000)).join('\n\n======\n\n'));
    await exchangeWorks();
    await scanForSecrets();
    report.measures.push(await server.measure());
    const { heapUsed, rss, delayMs, cpu } = report.measures.at(-1) as Measure;
    onRound(
      `${report.answered + report.mutants} requests; heap ${mib(heapUsed)} MiB, rss ${mib(rss)} MiB, event loop held ${Math.round(delayMs)} ms at most; CPU ${Math.round(process.cpuUsage().user / 1e6)} s here, ${Math.round(cpu)} s there`,
    );
  }
  return report;

  async function readMetrics(): Promise<Buffer> {
    const answer = await fetch(`http://127.0.0.1:${server.port}/metrics`);
    const text = Buffer.from(await answer.arrayBuffer());
    if (answer.status !== 200 || !text.includes('platform_tokens_exchanges_total'))
      throw new Violation(`no metrics: ${answer.status} ${text}`);
    return text;
  }

  /** A good exchange is as good as ever. */
  async function exchangeWorks(): Promise<void> {
    const answer = await fetch(`http://127.0.0.1:${server.port}/oauth/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        subject_token: scene.reserved.token,
      }),
    });
    const text = await answer.text();
    if (/the server is busy/.test(text)) {
      await waitShed();
      return exchangeWorks();
    }
    report.answered += 1;
    if (answer.status !== 200) throw new Violation(`a good exchange was refused: ${answer.status} ${text}`);
  }
}

const separator = Buffer.from('\n');
const mib = (bytes: number) => Math.round(bytes / 2 ** 20);

function count(statuses: FuzzReport['statuses'], route: string, status: number): void {
  const counts = statuses.get(route) ?? new Map<number, number>();
  counts.set(status, (counts.get(status) ?? 0) + 1);
  statuses.set(route, counts);
}

/** The sign-in form keeps the e-mail that was typed; what was typed there is no leak. */
function withoutTyped(body: Buffer): Buffer {
  return body.includes('id="email"')
    ? Buffer.from(body.toString().replace(/(<input id="email"[^>]* value=")[^"]*/, '$1'))
    : body;
}

/** What an answer gives for later: tokens, codes, cookies, cursors; and what is a secret from now on. */
function learn(scene: Scene, scanner: SecretScanner, { status, headers, body }: Answer): void {
  if (status >= 400) return;
  const location = headers.get('location')?.[0];
  if (location !== undefined) {
    const code = /[?&#]code=([\w-]+)/.exec(location)?.[1];
    if (code) {
      scene.codes.add(code);
      scanner.add('code', code);
    }
    const uid = /\/oauth\/sign-in\/([\w-]+)$/.exec(location)?.[1];
    const cookies = (headers.get('set-cookie') ?? []).map((line) => line.slice(0, line.indexOf(';')));
    if (uid) scene.interactions.add({ uid, cookie: cookies.join('; ') });
  }
  if (!/^application\/json/.test(headers.get('content-type')?.[0] ?? '') || body.length > 200_000) return;
  const text = body.toString();
  const cursor = /"next_cursor":"([\w-]+)"/.exec(text)?.[1];
  if (cursor) scene.cursors.add(cursor);
  if (!/"(access_token|token|client_secret|refresh_token|id_token)":"/.test(text)) return;
  const given = JSON.parse(text) as Record<string, unknown>;
  for (const name of ['access_token', 'id_token', 'refresh_token', 'token', 'client_secret']) {
    const secret = given[name];
    if (typeof secret !== 'string') continue;
    if (name === 'access_token') scene.accessTokens.add(secret);
    if (name === 'refresh_token') scene.refreshTokens.add(secret);
    if (name === 'id_token') scene.idTokens.add(secret);
    for (const part of secret.startsWith('eyJ') ? partsOfJwt(secret) : [secret]) scanner.add(name, part);
  }
}

function describe(request: FuzzRequest): string {
  return JSON.stringify(serialize(request).toString('latin1')).slice(0, 4000);
}

function describeMutant({ bytes, done }: Mutant): string {
  return `${done}: ${JSON.stringify(bytes.toString('latin1')).slice(0, 4000)}`;
}
