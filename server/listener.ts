import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Config } from '../config/env.ts';
import { policy } from '../config/policy.ts';

/** The server cannot start for a reason that an operator can mend; the message says how. */
export class StartError extends Error {}

export interface Listener {
  readonly port: number;
  /** Until this is called, requests are answered as by a server that comes up. */
  handle(listener: RequestListener): void;
  /** How many are open. */
  connections(): number;
  /** Takes no new connection, closes idle ones, and waits for the requests in flight. */
  drain(): Promise<void>;
}

const drainLimitMs = 20_000;

/** @throws StartError */
export async function openListener({ host, port, issuer }: Config): Promise<Listener> {
  let handle: RequestListener = comingUp(new URL(issuer).pathname.replace(/\/$/, ''));
  const server = createServer((request, response) => handle(request, response));
  let connections = 0;
  server.on('connection', (socket) => {
    connections += 1;
    socket.once('close', () => {
      connections -= 1;
    });
  });
  // Slow clients are cut: RFC 9110 leaves it to the server.
  server.headersTimeout = 10_000;
  server.requestTimeout = 30_000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const reason = cause.code === 'EADDRINUSE' ? 'the port is taken' : cause.message;
      reject(new StartError(`cannot listen on ${host}:${port}: ${reason}`, { cause }));
    });
    server.listen(port, host, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    handle(listener) {
      handle = listener;
    },
    connections: () => connections,
    drain() {
      return new Promise((resolve) => {
        const limit = setTimeout(() => server.closeAllConnections(), drainLimitMs);
        server.close(() => {
          clearTimeout(limit);
          resolve();
        });
        server.closeIdleConnections();
      });
    },
  };
}

/** Alive, and not ready for anything: an orchestrator must wait for it, and not end it. */
function comingUp(path: string): RequestListener {
  return (request: IncomingMessage, response: ServerResponse) => {
    request.resume();
    const live = request.url?.split('?')[0] === `${path}/health/live`;
    response.setHeader('Content-Type', 'application/json');
    response.setHeader('Cache-Control', 'no-store');
    if (!live) response.setHeader('Retry-After', String(policy.retryAfter));
    response.statusCode = live ? 200 : 503;
    response.end(live ? '{"status":"ok"}' : '{"status":"unavailable","reasons":["starting"]}');
  };
}
