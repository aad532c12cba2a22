import cluster from 'node:cluster';
import { createServer, type IncomingMessage, type RequestListener, ServerResponse } from 'node:http';
import { type AddressInfo, type ListenOptions, type Socket, Server as TcpServer } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Config } from '../config/env.ts';
import { policy } from '../config/policy.ts';
import { securityFields } from './http/security-headers.ts';
import { answerUnreadable } from './http/unreadable.ts';

/** The server cannot start for a reason that an operator can mend; the message says how. */
export class StartError extends Error {}

export type ConnectionLimits = Readonly<Record<keyof typeof policy.connections, number>>;

export interface Listener {
  readonly port: number;
  /** Until this is called, requests are answered as by a server that comes up. */
  handle(listener: RequestListener): void;
  /** How many are open. */
  connections(): number;
  /** Takes no new connection, waits for the requests in flight, and after `idleGraceMs` ends what is idle. */
  drain(idleGraceMs?: number): Promise<void>;
}

const idleCheckMs = 100;

/** @throws StartError */
export async function openListener(
  { host, port, issuer }: Pick<Config, 'host' | 'port' | 'issuer'>,
  limits: ConnectionLimits = policy.connections,
): Promise<Listener> {
  const { pathname, protocol } = new URL(issuer);
  const tls = protocol === 'https:';
  let handle: RequestListener = comingUp(pathname.replace(/\/$/, ''), tls);
  const onRequest = boundPipelines(limits.pipelined, (request, response) => handle(request, response));
  const server = createServer(
    {
      // What Node would answer by itself, without the security headers, is answered like everything else.
      requireHostHeader: false,
      // Slow clients are cut: RFC 9110 leaves it to the server.
      headersTimeout: limits.headersMs,
      requestTimeout: limits.requestMs,
      connectionsCheckingInterval: limits.checkMs,
      keepAliveTimeout: limits.idleMs,
    },
    onRequest,
  );
  server.on('checkContinue', (request, response) => {
    // Behind an answer that is not out yet (a pipelined request), Node would write the interim one between this one's
    // header and body. RFC 9110 §10.1.1: the client does not wait for ever.
    if (response.socket) response.writeContinue();
    onRequest(request, response);
  });
  server.on('checkExpectation', onRequest);
  server.on('connect', answerConnect(onRequest));
  server.on('clientError', answerUnreadable({ tls }));
  // Whoever does not read its answer, or is gone without a word, is cut too.
  server.timeout = limits.idleInRequestMs;
  // Node.js ignores headers from the 2,000th on, a credential among them. They are bounded by their bytes (16 KiB).
  server.maxHeadersCount = 0;
  let connections = 0;
  server.on('connection', (socket) => {
    if (connections >= limits.maximum) return void socket.destroy();
    connections += 1;
    socket.once('close', () => {
      connections -= 1;
    });
  });
  const listening = await listen(server, { host, port }, limits.listening);
  return {
    port: (server.address() as AddressInfo).port,
    handle(listener) {
      handle = listener;
    },
    connections: () => connections,
    drain(idleGraceMs = policy.idleGraceMs) {
      return new Promise((resolve) => {
        const endIdle = () => server.closeIdleConnections();
        const timers = [
          // A request may be on its way on a connection that looks idle: each has time for one more, which is told to be the last.
          setTimeout(() => timers.push(setInterval(endIdle, idleCheckMs)), idleGraceMs),
          setTimeout(() => server.closeAllConnections(), policy.drainLimitMs),
        ];
        // That of HTTP would end those that look idle at once.
        const closed = listening.map(
          (one) => new Promise<unknown>((done) => TcpServer.prototype.close.call(one, done)),
        );
        Promise.all(closed).then(() => {
          for (const timer of timers) clearTimeout(timer);
          server.close();
          resolve();
        });
      });
    },
  };
}

/**
 * libuv takes one connection in a turn of the event loop from each socket that listens (libuv/libuv#3696). Where the
 * connections that are open keep the process busy, a turn is long, and from a single socket new clients would be let in one by
 * one, until the kernel drops them. So several listen on the port, where the system can do that (SO_REUSEPORT). A worker gets its
 * connections from the primary, one by one: of a queue of its own, all would be lost with a worker that is killed.
 * @returns all of them, the server first
 * @throws StartError
 */
async function listen(
  server: TcpServer,
  { host, port }: { readonly host: string; readonly port: number },
  count: number,
): Promise<readonly TcpServer[]> {
  const start = (one: TcpServer, options: ListenOptions) =>
    new Promise<void>((resolve, reject) => {
      const onError = (cause: NodeJS.ErrnoException) => {
        const reason = cause.code === 'EADDRINUSE' ? 'the port is taken' : cause.message;
        reject(new StartError(`cannot listen on ${host}:${port}: ${reason}`, { cause }));
      };
      one.once('error', onError);
      one.listen(options, () => {
        one.off('error', onError);
        resolve();
      });
    });
  if (cluster.isWorker || count === 1) {
    await start(server, { host, port });
    return [server];
  }
  // Those that share a port do so with whoever else would: whether it is taken, one that does not share it finds out.
  const first = new TcpServer();
  await start(first, { host, port });
  const shared = { host, port: (first.address() as AddressInfo).port, reusePort: true };
  await new Promise((resolve) => first.close(resolve));
  try {
    await start(server, shared);
  } catch (error) {
    // ENOTSUP and the like: not on this system.
    if (((error as StartError).cause as NodeJS.ErrnoException).code === 'EADDRINUSE') throw error;
    await start(server, { ...shared, reusePort: false });
    return [server];
  }
  // As an HTTP server listens.
  const options = { allowHalfOpen: true, noDelay: true };
  const others = Array.from(
    { length: count - 1 },
    () => new TcpServer(options, (socket) => void server.emit('connection', socket)),
  );
  await Promise.all(others.map((one) => start(one, shared)));
  return [server, ...others];
}

/** Node.js closes a connection on which somebody asks for a tunnel, without a word. Here CONNECT is answered like any other method. */
function answerConnect(listener: RequestListener): (request: IncomingMessage, socket: Duplex) => void {
  return (request, socket) => {
    // Node.js has taken its own listener away.
    socket.on('error', () => socket.destroy());
    // Behind a request whose answer is not out yet there is no place for one.
    if ('_httpMessage' in socket && socket._httpMessage) return void socket.destroy();
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket as Socket);
    // Nobody reads what comes behind it: left there, it would have the system take back the answer.
    socket.resume();
    response.once('finish', () => (socket as Socket).destroySoon());
    listener(request, response);
  };
}

/**
 * Node.js hands over every request that came in one packet, before the first of them is answered: thousands of small ones.
 * Some may be sent ahead (RFC 9112 §9.3.2); whoever sends more is cut.
 */
function boundPipelines(maximum: number, listener: RequestListener): RequestListener {
  const ahead = new WeakMap<Socket, Set<ServerResponse>>();
  const waitingOn = (socket: Socket) => {
    const waiting = new Set<ServerResponse>();
    ahead.set(socket, waiting);
    // Behind a request that would take the connection over (CONNECT), Node.js would leave them as they are.
    socket.once('close', () => {
      for (const response of waiting) response.destroy();
    });
    return waiting;
  };
  return (request, response) => {
    // The first on a connection has it; those behind it wait for it.
    if (response.socket) return listener(request, response);
    const { socket } = request;
    const waiting = ahead.get(socket) ?? waitingOn(socket);
    if (waiting.size >= maximum) cut(socket);
    if (socket.destroyed) return;
    waiting.add(response);
    response.once('close', () => waiting.delete(response));
    listener(request, response);
  };
}

/**
 * A connection that is closed only would have the rest of its packet parsed: of a thousand small requests each would cost memory
 * until the end of the turn. To its parser, which Node.js has at `socket.parser`, the next request is an upgrade: the last of HTTP.
 */
function cut(
  socket: Socket & { readonly parser?: { onIncoming: (request: { upgrade: boolean }) => 2 } | null },
): void {
  socket.destroy();
  if (!socket.parser) return;
  socket.parser.onIncoming = (request) => {
    // Where it says so itself, Node.js would hand the connection over, and let go of the requests on it without a word.
    request.upgrade = false;
    return 2;
  };
}

/** Alive, and not ready for anything: an orchestrator must wait for it, and not end it. */
function comingUp(path: string, tls: boolean): RequestListener {
  const fields = securityFields({ tls });
  return (request: IncomingMessage, response: ServerResponse) => {
    request.resume();
    const live = request.url?.split('?')[0] === `${path}/health/live`;
    for (const [name, value] of fields) response.setHeader(name, value);
    response.setHeader('Content-Type', 'application/json');
    response.setHeader('Cache-Control', 'no-store');
    if (!live) response.setHeader('Retry-After', String(policy.retryAfter));
    response.statusCode = live ? 200 : 503;
    response.end(live ? '{"status":"ok"}' : '{"status":"unavailable","reasons":["starting"]}');
  };
}
