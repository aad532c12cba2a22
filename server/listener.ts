import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Config } from '../config/env.ts';
import { policy } from '../config/policy.ts';
import { securityFields } from './http/security-headers.ts';
import { answerUnreadable } from './http/unreadable.ts';

/** The server cannot start for a reason that an operator can mend; the message says how. */
export class StartError extends Error {}

export interface Listener {
  readonly port: number;
  /** Until this is called, requests are answered as by a server that comes up. */
  handle(listener: RequestListener): void;
  /** Takes no new connection, closes idle ones, and waits for the requests in flight. */
  drain(): Promise<void>;
}

const drainLimitMs = 20_000;

/** @throws StartError */
export async function openListener({ host, port, issuer }: Config): Promise<Listener> {
  const { pathname, protocol } = new URL(issuer);
  const tls = protocol === 'https:';
  let handle: RequestListener = comingUp(pathname.replace(/\/$/, ''), tls);
  // What Node would answer by itself, without the security headers, is answered like everything else.
  const server = createServer({ requireHostHeader: false }, (request, response) => handle(request, response));
  server.on('checkContinue', (request, response) => {
    // Behind an answer that is not out yet (a pipelined request), Node would write the interim one between this one's
    // header and body. RFC 9110 §10.1.1: the client does not wait for ever.
    if (response.socket) response.writeContinue();
    handle(request, response);
  });
  server.on('checkExpectation', (request, response) => handle(request, response));
  server.on('clientError', answerUnreadable({ tls }));
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
