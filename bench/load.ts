import { connect, type Socket } from 'node:net';

export interface LoadOptions {
  readonly port: number;
  readonly connections: number;
  /** Whole HTTP requests, used in turn. */
  readonly requests: readonly Buffer[];
  /** Load that is not counted, before the counted part. */
  readonly rampMs: number;
  readonly durationMs: number;
}

export interface LoadResult {
  /** Answers a second in the counted part. */
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
  /** All answers, those of the ramp too. */
  readonly answers: number;
}

/**
 * As many keep-alive connections, each with one request in flight (a closed loop). On plain sockets, because a
 * client of node:http costs more CPU than the servers measured, and takes it from them where cores are few.
 * @throws where an answer is not a 200 with an access token, or a connection ends
 */
export async function drive(options: LoadOptions): Promise<LoadResult> {
  const begin = performance.now() + options.rampMs;
  const end = begin + options.durationMs;
  const latencies: number[] = [];
  let answers = 0;
  let next = 0;
  const source = {
    take: () => options.requests[next++ % options.requests.length] as Buffer,
    /** @returns whether to go on */
    done(sent: number): boolean {
      const now = performance.now();
      answers += 1;
      if (now >= begin && now < end) latencies.push(now - sent);
      return now < end;
    },
  };
  const sockets = Array.from({ length: options.connections }, () => {
    const socket = connect(options.port, '127.0.0.1').setNoDelay(true);
    return { socket, finished: loop(socket, source) };
  });
  try {
    await Promise.all(sockets.map(({ finished }) => finished));
  } finally {
    for (const { socket } of sockets) socket.destroy();
  }
  const sorted = Float64Array.from(latencies).sort();
  const quantile = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
  return {
    rate: (latencies.length * 1000) / options.durationMs,
    p50: quantile(0.5),
    p99: quantile(0.99),
    answers,
  };
}

interface Source {
  take(): Buffer;
  done(sent: number): boolean;
}

function loop(socket: Socket, source: Source): Promise<void> {
  return new Promise((resolve, reject) => {
    let sent = 0;
    let received = '';
    const send = () => {
      received = '';
      sent = performance.now();
      socket.write(source.take());
    };
    socket.setEncoding('latin1');
    socket.once('connect', send);
    socket.on('data', (chunk: string) => {
      received += chunk;
      try {
        if (!isComplete(received)) return;
      } catch (error) {
        reject(error);
        return;
      }
      if (source.done(sent)) send();
      else resolve();
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the server closed a connection')));
  });
}

/** @throws where this is not what a successful exchange answers */
function isComplete(text: string): boolean {
  const head = text.indexOf('\r\n\r\n');
  if (head < 0) return false;
  const length = /\r\ncontent-length: (\d+)\r\n/i.exec(text.slice(0, head + 2))?.[1];
  if (!text.startsWith('HTTP/1.1 200 ') || length === undefined) {
    throw new Error(`not the expected answer:\n${text.slice(0, 1000)}`);
  }
  const missing = head + 4 + Number(length) - text.length;
  if (missing > 0) return false;
  if (missing < 0 || !text.includes('"access_token":"', head)) {
    throw new Error(`not the expected answer:\n${text.slice(0, 1000)}`);
  }
  return true;
}
