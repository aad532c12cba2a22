import { type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { securityFields } from './security-headers.ts';

const statuses: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
};

/**
 * For `clientError`: answers what Node could not read as a request, as everything else is answered; Node's own answer has
 * neither a body nor the security headers. The connection ends with it (RFC 9112 §2.2).
 */
export function answerUnreadable(deps: {
  readonly tls: boolean;
}): (error: NodeJS.ErrnoException, socket: Duplex) => void {
  const answers = new Map([400, ...Object.values(statuses)].map((status) => [status, answer(status, deps)]));
  return ({ code = '' }, socket) => {
    // Node's own name for the answer that is being made on this connection.
    const { _httpMessage: present } = socket as { _httpMessage?: ServerResponse };
    if (present?.req?.complete) {
      // It came after a request that could be read, which gets its answer: anything else would be taken for that.
      if (present.writableFinished) socket.destroy();
      else present.once('finish', () => socket.end());
      return;
    }
    if (code !== 'ECONNRESET' && socket.writable && !present?.headersSent) {
      socket.end(answers.get(statuses[code] ?? 400), () => socket.destroy());
    } else {
      socket.destroy();
    }
  };
}

function answer(status: number, deps: { readonly tls: boolean }): string {
  const title = STATUS_CODES[status] ?? 'Error';
  const body = JSON.stringify({ type: 'about:blank', title, status });
  const fields = [
    ...securityFields(deps),
    ['Cache-Control', 'no-store'],
    ['Content-Type', 'application/problem+json'],
    ['Content-Length', String(body.length)],
    ['Connection', 'close'],
  ];
  return [`HTTP/1.1 ${status} ${title}`, ...fields.map((field) => field.join(': ')), '', body].join('\r\n');
}
