import fc from 'fast-check';
import { type FuzzRequest, serialize } from './requests.ts';

/** Bytes that began as a valid request. */
export interface Mutant {
  readonly bytes: Buffer;
  /** What was done to it, for a report. */
  readonly done: string;
}

const crlf = '\r\n';
const latin1 = (text: string) => Buffer.from(text, 'latin1');

/** What smugglers and broken clients do to the head of a request (RFC 9112 §11.2). */
const shapes: Readonly<Record<string, (head: string, body: Buffer) => Buffer>> = {
  'both lengths': (head, body) => join(`${head}${crlf}Transfer-Encoding: chunked`, chunked(body)),
  'transfer coding twice': (head, body) =>
    join(
      `${withoutLength(head)}${crlf}Transfer-Encoding: chunked${crlf}Transfer-Encoding: identity`,
      chunked(body),
    ),
  'transfer coding obscured': (head, body) =>
    join(`${head}${crlf}Transfer-Encoding: xchunked`, chunked(body)),
  'transfer coding after a tab': (head, body) =>
    join(`${head}${crlf}Transfer-Encoding:\tchunked`, chunked(body)),
  'transfer coding before a colon': (head, body) =>
    join(`${head}${crlf}Transfer-Encoding : chunked`, chunked(body)),
  'two lengths': (head, body) => join(`${head}${crlf}Content-Length: ${body.length + 1}`, body),
  'two equal lengths': (head, body) => join(`${withoutLength(head)}${crlf}Content-Length: 0, 0`, body),
  'negative length': (head, body) => join(`${withoutLength(head)}${crlf}Content-Length: -1`, body),
  'length with a sign': (head, body) =>
    join(`${withoutLength(head)}${crlf}Content-Length: +${body.length}`, body),
  'huge length': (head, body) =>
    join(`${withoutLength(head)}${crlf}Content-Length: 99999999999999999999`, body),
  'bare LF': (head, body) => Buffer.concat([latin1(`${head.replaceAll(crlf, '\n')}\n\n`), body]),
  'bare CR': (head, body) => Buffer.concat([latin1(`${head.replaceAll(crlf, '\r')}\r\r`), body]),
  'folded header': (head, body) => join(head.replace(crlf, `${crlf}X-Folded: a${crlf} b${crlf}`), body),
  'leading space': (head, body) => join(head.replace(crlf, `${crlf} X-Space: a${crlf}`), body),
  'NUL in a header': (head, body) => join(`${head}${crlf}X-Nul: a\0b`, body),
  'NUL in the target': (head, body) => join(head.replace('/', '/\0'), body),
  'header without a colon': (head, body) => join(`${head}${crlf}nonsense`, body),
  'header without a name': (head, body) => join(`${head}${crlf}: value`, body),
  'no host': (head, body) => join(head.replace(/\r\nHost: [^\r]*/, ''), body),
  'two hosts': (head, body) => join(`${head}${crlf}Host: evil.example.com`, body),
  'bad host': (head, body) => join(head.replace(/Host: [^\r]*/, 'Host: a b/@c'), body),
  'absolute form': (head, body) => join(head.replace(' /', ' http://evil.example.com/'), body),
  'absolute form with credentials': (head, body) =>
    join(head.replace(' /', ' http://user:secret@issuer.test/'), body),
  'asterisk form': (head, body) => join(head.replace(/ \S+/, ' *'), body),
  'authority form': (head, body) => join(head.replace(/^\S+ \S+/, 'CONNECT issuer.test:443'), body),
  'broken target': (head, body) => join(head.replace(' /', ' http://['), body),
  'no target': (head, body) => join(head.replace(/^(\S+) \S+/, '$1'), body),
  'spaces in the target': (head, body) => join(head.replace(' /', '  / '), body),
  'percent in the target': (head, body) => join(head.replace(' HTTP', '%zz%e0%a4%a HTTP'), body),
  'dots in the target': (head, body) => join(head.replace(' /', ' /../.././%2e%2e/'), body),
  'HTTP/1.0': (head, body) => join(head.replace('HTTP/1.1', 'HTTP/1.0'), body),
  'HTTP/0.9': () => latin1(`GET /${crlf}`),
  'HTTP/2 preface': () => latin1(`PRI * HTTP/2.0${crlf}${crlf}SM${crlf}${crlf}`),
  'HTTP/9.9': (head, body) => join(head.replace('HTTP/1.1', 'HTTP/9.9'), body),
  TLS: () => Buffer.from('16030100a5010000a10303', 'hex'),
  'expects 100': (head, body) => join(`${head}${crlf}Expect: 100-continue`, body),
  'expects the impossible': (head, body) => join(`${head}${crlf}Expect: miracles`, body),
  upgrade: (head, body) => join(`${head}${crlf}Connection: Upgrade${crlf}Upgrade: websocket`, body),
  'upgrade to h2c': (head, body) =>
    join(
      `${head}${crlf}Connection: Upgrade, HTTP2-Settings${crlf}Upgrade: h2c${crlf}HTTP2-Settings: AAAA`,
      body,
    ),
  'good chunks': (head, body) =>
    join(`${withoutLength(head)}${crlf}Transfer-Encoding: chunked`, chunked(body)),
  'chunk extensions': (head, body) =>
    join(
      `${withoutLength(head)}${crlf}Transfer-Encoding: chunked`,
      chunked(body, `;a=${'b'.repeat(20_000)}`),
    ),
  'chunk of a bad size': (head) =>
    join(
      `${withoutLength(head)}${crlf}Transfer-Encoding: chunked`,
      latin1(`zz${crlf}abc${crlf}0${crlf}${crlf}`),
    ),
  'chunk of a negative size': (head) =>
    join(
      `${withoutLength(head)}${crlf}Transfer-Encoding: chunked`,
      latin1(`-5${crlf}abcde${crlf}0${crlf}${crlf}`),
    ),
  'chunk of a huge size': (head) =>
    join(`${withoutLength(head)}${crlf}Transfer-Encoding: chunked`, latin1(`fffffffffffffffff${crlf}a`)),
  'chunk that is longer than it says': (head) =>
    join(
      `${withoutLength(head)}${crlf}Transfer-Encoding: chunked`,
      latin1(`1${crlf}abcde${crlf}0${crlf}${crlf}`),
    ),
  trailers: (head, body) =>
    join(
      `${withoutLength(head)}${crlf}Transfer-Encoding: chunked`,
      latin1(
        `${body.length.toString(16)}${crlf}${body.toString('latin1')}${crlf}0${crlf}Authorization: Bearer x${crlf}${crlf}`,
      ),
    ),
  'very long target': (head, body) => join(head.replace(' /', ` /${'a'.repeat(20_000)}`), body),
  'long target': (head, body) => join(head.replace(' HTTP', `?q=${'%61'.repeat(4_000)} HTTP`), body),
  'very long header': (head, body) => join(`${head}${crlf}X-Long: ${'a'.repeat(70_000)}`, body),
  'very many headers': (head, body) => join(`${head}${`${crlf}X-Many: a`.repeat(1_000)}`, body),
  'garbage after': (head, body) => Buffer.concat([join(head, body), latin1('\0\x01garbage\xff\r\n\r\nmore')]),
  'another after': (head, body) =>
    Buffer.concat([join(head, body), latin1(`GET /health/live HTTP/1.1${crlf}Host: x${crlf}${crlf}`)]),
  'answers first': (head, body) => Buffer.concat([latin1(`HTTP/1.1 200 OK${crlf}${crlf}`), join(head, body)]),
  'line breaks first': (head, body) => Buffer.concat([latin1(crlf.repeat(5)), join(head, body)]),
  'many fields': (head) => {
    const body = latin1(Array.from({ length: 3_000 }, (_, index) => `a${index}=b`).join('&'));
    return join(`${withoutLength(head)}${crlf}Content-Length: ${body.length}`, body);
  },
  'bytes that are no UTF-8': (head, body) => join(head, Buffer.from(body.map((byte) => byte | 0x80))),
};

const join = (head: string, body: Buffer) => Buffer.concat([latin1(`${head}${crlf}${crlf}`), body]);
const withoutLength = (head: string) => head.replace(/\r\nContent-Length: \d+/, '');
const chunked = (body: Buffer, extension = '') =>
  Buffer.concat([
    latin1(`${body.length.toString(16)}${extension}${crlf}`),
    body,
    latin1(`${crlf}0${crlf}${crlf}`),
  ]);

/** Requests that are no longer quite HTTP: reshaped, cut, spliced with others, or with flipped bytes. */
export function createMutants(requests: fc.Arbitrary<FuzzRequest>): fc.Arbitrary<Mutant> {
  const names = Object.keys(shapes);
  const recorded = requests.map(serialize);
  const shaped = fc.tuple(recorded, fc.constantFrom(...names)).map(([bytes, name]): Mutant => {
    const end = bytes.indexOf('\r\n\r\n');
    const shape = shapes[name] as (typeof shapes)[string];
    return { bytes: shape(bytes.toString('latin1', 0, end), bytes.subarray(end + 4)), done: name };
  });
  const flipped = fc
    .tuple(
      recorded,
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 6 }),
    )
    .map(([bytes, flips]): Mutant => {
      const copy = Buffer.from(bytes);
      // Where it matters most half of the time: in the head.
      const end = bytes.indexOf('\r\n\r\n') + 4;
      for (const [at, value] of flips) copy[at % (value % 2 ? end : copy.length)] = value;
      return { bytes: copy, done: 'bytes changed' };
    });
  const cut = fc.tuple(recorded, fc.nat()).map(([bytes, at]): Mutant => {
    return { bytes: bytes.subarray(0, 1 + (at % bytes.length)), done: 'cut off' };
  });
  const spliced = fc
    .tuple(recorded, recorded, fc.nat(), fc.nat())
    .map(([first, second, from, to]): Mutant => {
      const bytes = Buffer.concat([
        first.subarray(0, from % first.length),
        second.subarray(to % second.length),
      ]);
      return { bytes, done: 'spliced' };
    });
  const repeated = fc
    .tuple(recorded, fc.nat(), fc.nat(40), fc.nat(60))
    .map(([bytes, at, length, times]): Mutant => {
      const from = at % bytes.length;
      const part = bytes.subarray(from, from + length);
      const copies = Array.from({ length: times }, () => part);
      return {
        bytes: Buffer.concat([bytes.subarray(0, from), ...copies, bytes.subarray(from)]),
        done: 'repeated',
      };
    });
  return fc.oneof(
    { weight: 5, arbitrary: shaped },
    { weight: 3, arbitrary: flipped },
    { weight: 1, arbitrary: cut },
    { weight: 1, arbitrary: spliced },
    { weight: 1, arbitrary: repeated },
  );
}
