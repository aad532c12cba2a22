import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty where there is none. */
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly name: string;
  readonly kind: number;
  readonly attributes: Readonly<Record<string, string | number>>;
  /** Ids of the spans that it is linked to. */
  readonly links: readonly string[];
  readonly isError: boolean;
}

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** Takes traces by OTLP over HTTP, as protobuf. */
export async function createCollector(answer: Answer = (_request, response) => response.end()) {
  const bodies: Buffer[] = [];
  const paths = new Set<string>();
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    paths.add(`${request.method} ${request.url} ${request.headers['content-type']}`);
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      bodies.push(Buffer.concat(chunks));
      answer(request, response);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    paths,
    bytes: () => Buffer.concat(bodies),
    spans: () => bodies.flatMap(readSpans),
    serviceNames: () => bodies.flatMap((body) => all(readMessage(body), 1).map(serviceNameOf)),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** By opentelemetry-proto: ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Span. */
function readSpans(body: Buffer): CollectedSpan[] {
  return all(readMessage(body), 1)
    .flatMap((resourceSpans) => all(readMessage(resourceSpans), 2))
    .flatMap((scopeSpans) => all(readMessage(scopeSpans), 2))
    .map((bytes) => {
      const span = readMessage(bytes);
      return {
        traceId: hex(span, 1),
        spanId: hex(span, 2),
        traceState: text(span, 3),
        parentSpanId: hex(span, 4),
        name: text(span, 5),
        kind: Number(span.get(6)?.[0] ?? 0),
        attributes: readAttributes(all(span, 9)),
        links: all(span, 13).map((link) => hex(readMessage(link), 2)),
        isError: all(span, 15).some((status) => readMessage(status).get(3)?.[0] === 2),
      };
    });
}

function serviceNameOf(resourceSpans: Buffer): string {
  const [resource] = all(readMessage(resourceSpans), 1);
  return String(readAttributes(all(readMessage(resource ?? Buffer.alloc(0)), 1))['service.name']);
}

function readAttributes(attributes: readonly Buffer[]): Record<string, string | number> {
  return Object.fromEntries(
    attributes.map((bytes) => {
      const attribute = readMessage(bytes);
      const value = readMessage(all(attribute, 2)[0] ?? Buffer.alloc(0));
      return [text(attribute, 1), value.has(1) ? text(value, 1) : Number(value.get(3)?.[0])];
    }),
  );
}

type Message = Map<number, (Buffer | number)[]>;
const all = (message: Message, field: number) => (message.get(field) ?? []).filter(Buffer.isBuffer);
const text = (message: Message, field: number) => all(message, field)[0]?.toString() ?? '';
const hex = (message: Message, field: number) => all(message, field)[0]?.toString('hex') ?? '';

function readMessage(bytes: Buffer): Message {
  const message: Message = new Map();
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++] as number;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const [field, wire] = [Math.floor(tag / 8), tag & 7];
    let value: Buffer | number = 0;
    if (wire === 0) value = varint();
    else {
      const length = wire === 2 ? varint() : wire === 1 ? 8 : 4;
      value = bytes.subarray(at, at + length);
      at += length;
    }
    message.set(field, [...(message.get(field) ?? []), value]);
  }
  return message;
}
