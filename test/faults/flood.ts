import { connect, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';

/** A process of its own: as many exchanges at once as it is told, each connection with one in flight, none with a pause. */

export interface Flood {
  /** A second. */
  readonly accepted: number;
  readonly refused: number;
  /** Of what was accepted, in ms. */
  readonly p50: number;
  readonly p99: number;
  /** Answers that are neither. */
  readonly wrong: Readonly<Record<string, number>>;
}

const [port, token, connections, seconds] = process.argv.slice(2) as [string, string, string, string];
const form = new URLSearchParams({
  grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
  subject_token: token,
}).toString();
const message = Buffer.from(
  [
    'POST /oauth/token HTTP/1.1',
    'Host: x',
    'Content-Type: application/x-www-form-urlencoded',
    `Content-Length: ${form.length}`,
    '',
    form,
  ].join('\r\n'),
);
const rampMs = Number(connections) * 4 + 2_000;
const begin = performance.now() + rampMs;
const end = begin + Number(seconds) * 1_000;
const latencies: number[] = [];
let refused = 0;
const wrong: Record<string, number> = {};
const count = (what: string) => {
  wrong[what] = (wrong[what] ?? 0) + 1;
};

/** A connection; another one where the server has closed it after an answer. */
async function run(): Promise<void> {
  while (performance.now() < end) await runOnce();
}

function runOnce(): Promise<void> {
  return new Promise((resolve) => {
    const socket: Socket = connect(Number(port), '127.0.0.1').setNoDelay(true);
    socket.setEncoding('latin1');
    let received = '';
    let since = 0;
    let taken = false;
    const ask = () => {
      since = performance.now();
      if (since >= end) socket.destroy();
      else socket.write(message);
    };
    socket.on('connect', ask);
    socket.on('error', ({ code, message }: NodeJS.ErrnoException) => count(code ?? message));
    socket.on('close', () => resolve());
    socket.on('data', (chunk: string) => {
      received += chunk;
      const head = received.indexOf('\r\n\r\n');
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(received)?.[1] ?? Number.NaN);
      if (head < 0 || received.length < head + 4 + length) return;
      const now = performance.now();
      // Not the first: until then the connection waits for the server to take it.
      if (taken && now >= begin && now < end) {
        if (received.startsWith('HTTP/1.1 200')) latencies.push(now - since);
        else if (received.startsWith('HTTP/1.1 503') && /\r\nretry-after: \d/i.test(received)) refused += 1;
        else count(received.slice(0, 12));
      }
      const closes = /\r\nconnection: close/i.test(received);
      received = '';
      taken = true;
      if (closes) socket.destroy();
      else ask();
    });
  });
}

// One after the other: all at once they would fill the kernel's queue of connections, which is not what is measured.
const running: Promise<void>[] = [];
for (let index = 0; index < Number(connections); index += 1) {
  running.push(run());
  await setTimeout(4);
}
await Promise.all(running);
const sorted = Float64Array.from(latencies).sort();
const quantile = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
const result: Flood = {
  accepted: latencies.length / Number(seconds),
  refused: refused / Number(seconds),
  p50: quantile(0.5),
  p99: quantile(0.99),
  wrong,
};
process.stdout.write(JSON.stringify(result));
