import { connect, type Socket } from 'node:net';

export interface LoadOptions {
  readonly port: number;
  readonly connections: number;
  /** Whole HTTP requests, used in turn. */
  readonly requests: readonly Buffer[];
  /** Load that is not counted, before the counted part. */
  readonly rampMs: number;
  readonly durationMs: number;
  /** Requests a second; without it, as many as the connections allow with one in flight on each. */
  readonly rate?: number | undefined;
  /** Counts answers of every status, where else a refusal ends the run. */
  readonly anyStatus?: boolean;
}

export interface LoadResult {
  /** Answers a second in the counted part. */
  readonly rate: number;
  /** In ms. At a fixed rate from when the request was due, so that waiting for a free connection counts. */
  readonly p50: number;
  readonly p99: number;
  /** All answers, those of the ramp too. */
  readonly answers: number;
  /** All answers by status. */
  readonly statuses: Readonly<Record<number, number>>;
}

/**
 * Keep-alive connections with at most one request in flight on each. On plain sockets, because a client of node:http
 * costs more CPU than the servers measured, and takes it from them where cores are few.
 * @throws where an answer is not a 200 with an access token, or a connection ends
 */
export async function drive(options: LoadOptions): Promise<LoadResult> {
  const { requests, durationMs, rate, anyStatus = false } = options;
  const connections = await Promise.all(
    Array.from({ length: options.connections }, () => open(options.port, anyStatus)),
  );
  const begin = performance.now() + options.rampMs;
  const end = begin + durationMs;
  const latencies: number[] = [];
  const statuses: Record<number, number> = {};
  let answers = 0;
  let next = 0;
  /** @param due when it should have left, in ms of `performance.now()` */
  async function request(connection: Connection, due: number): Promise<void> {
    const status = await connection.request(requests[next++ % requests.length] as Buffer);
    statuses[status] = (statuses[status] ?? 0) + 1;
    const now = performance.now();
    answers += 1;
    if (now >= begin && now < end) latencies.push(now - due);
  }
  try {
    if (rate === undefined) await Promise.all(connections.map((one) => saturate(one, request, end)));
    else await pace(connections, request, rate, end);
  } finally {
    for (const { close } of connections) close();
  }
  const sorted = Float64Array.from(latencies).sort();
  const quantile = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
  return {
    rate: (latencies.length * 1000) / durationMs,
    p50: quantile(0.5),
    p99: quantile(0.99),
    answers,
    statuses,
  };
}

type Request = (connection: Connection, due: number) => Promise<void>;

async function saturate(connection: Connection, request: Request, end: number): Promise<void> {
  for (let now = performance.now(); now < end; now = performance.now()) await request(connection, now);
}

/** What is due leaves at the next tick of a millisecond; what finds no free connection waits, and its waiting counts. */
function pace(
  connections: readonly Connection[],
  request: Request,
  rate: number,
  end: number,
): Promise<unknown> {
  const free = [...connections];
  const due: number[] = [];
  const start = performance.now();
  let released = 0;
  return new Promise((resolve, reject) => {
    const assign = () => {
      for (let since = due[0]; since !== undefined && free.length > 0; since = due[0]) {
        due.shift();
        // In turn: servers close what has been idle for long.
        const connection = free.shift() as Connection;
        request(connection, since).then(() => {
          free.push(connection);
          assign();
        }, reject);
      }
    };
    const tick = () => {
      const now = performance.now();
      if (now >= end) {
        due.length = 0;
        finish();
        return;
      }
      for (; released < ((now - start) / 1000) * rate; released += 1) due.push(now);
      assign();
      setTimeout(tick, 1);
    };
    const finish = () => {
      if (free.length === connections.length) resolve(undefined);
      else setTimeout(finish, 1);
    };
    tick();
  });
}

interface Connection {
  /** Sends, and waits for the whole answer. @returns its status */
  request(data: Buffer): Promise<number>;
  close(): void;
}

async function open(port: number, anyStatus: boolean): Promise<Connection> {
  const socket: Socket = connect(port, '127.0.0.1').setNoDelay(true);
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  socket.setEncoding('latin1');
  let received = '';
  let ended: Error | undefined;
  let waiting: { resolve: (status: number) => void; reject: (error: unknown) => void } | undefined;
  const fail = (error: Error) => {
    ended ??= error;
    waiting?.reject(ended);
    waiting = undefined;
  };
  socket.on('data', (chunk: string) => {
    received += chunk;
    let status: number | undefined;
    try {
      status = statusOf(received, anyStatus);
    } catch (error) {
      fail(error as Error);
    }
    if (status === undefined) return;
    received = '';
    const answered = waiting;
    waiting = undefined;
    answered?.resolve(status);
  });
  socket.on('error', fail);
  socket.on('close', () => fail(new Error('the server closed a connection')));
  return {
    request: (data) =>
      new Promise((resolve, reject) => {
        if (ended) {
          reject(ended);
          return;
        }
        waiting = { resolve, reject };
        socket.write(data);
      }),
    close: () => void socket.destroy(),
  };
}

/** Undefined until the answer is whole. @throws where it is not what was expected */
function statusOf(text: string, anyStatus: boolean): number | undefined {
  const head = text.indexOf('\r\n\r\n');
  if (head < 0) return undefined;
  const unexpected = () => new Error(`not the expected answer:\n${text.slice(0, 1000)}`);
  const length = /\r\ncontent-length: (\d+)\r\n/i.exec(text.slice(0, head + 2))?.[1];
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1]);
  if (!(anyStatus ? status > 0 : status === 200) || length === undefined) throw unexpected();
  const missing = head + 4 + Number(length) - text.length;
  if (missing > 0) return undefined;
  if (missing < 0 || (status === 200 && !text.includes('"access_token":"', head))) throw unexpected();
  return status;
}
