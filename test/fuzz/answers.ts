/** One answer, as it came over the wire. */
export interface Answer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, readonly string[]>;
  readonly body: Buffer;
  /** Status line and header fields as they were. */
  readonly head: string;
  /** Whether nothing follows on this connection. */
  readonly last: boolean;
}

/** What came is no HTTP/1.1 (RFC 9112). */
export class Malformed extends Error {}

const field = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*$/;

/**
 * The first answer in what came, and what is left; undefined where more must come.
 * @param bodiless whether it answers HEAD
 * @throws Malformed
 */
export function readAnswer(bytes: Buffer, bodiless: boolean): { answer: Answer; rest: Buffer } | undefined {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) {
    if (bytes.length > 0 && !'HTTP/1.1 '.startsWith(bytes.toString('latin1', 0, Math.min(9, bytes.length))))
      throw new Malformed(`no status line: ${bytes.toString('latin1', 0, 80)}`);
    return undefined;
  }
  const head = bytes.toString('latin1', 0, end);
  const [line = '', ...lines] = head.split('\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3}) [\t\x20-\x7e]*$/.exec(line)?.[1]);
  if (!(status >= 100 && status <= 599)) throw new Malformed(`status line: ${line.slice(0, 80)}`);
  const headers = new Map<string, string[]>();
  for (const text of lines) {
    const [, name = '', value = ''] = field.exec(text) ?? [];
    if (name === '') throw new Malformed(`header field: ${text.slice(0, 80)}`);
    const before = headers.get(name.toLowerCase());
    if (before) before.push(value);
    else headers.set(name.toLowerCase(), [value]);
  }
  // RFC 9110 §15.2: an interim answer; the final one follows.
  if (status < 200) return readAnswer(bytes.subarray(end + 4), bodiless);

  const body = readBody(bytes.subarray(end + 4), headers, bodiless || status === 204 || status === 304);
  if (!body) return undefined;
  const last = headers.get('connection')?.some((value) => /close/i.test(value)) ?? false;
  return { answer: { status, headers, body: body.content, head, last }, rest: body.rest };
}

function readBody(bytes: Buffer, headers: ReadonlyMap<string, readonly string[]>, bodiless: boolean) {
  const lengths = headers.get('content-length');
  const codings = headers.get('transfer-encoding');
  // RFC 9112 §6.2: never both.
  if (lengths && codings) throw new Malformed('Content-Length beside Transfer-Encoding');
  if (bodiless) return { content: Buffer.alloc(0), rest: bytes };
  if (codings) return readChunks(bytes);
  // RFC 9112 §6.3: to the end of the connection; what ends so here is what Node writes by itself, at once and whole.
  if (!lengths && headers.get('connection')?.[0] === 'close')
    return { content: bytes, rest: bytes.subarray(bytes.length) };
  if (lengths?.length !== 1 || !/^\d{1,9}$/.test(lengths[0] as string))
    throw new Malformed(`Content-Length: ${lengths} in ${JSON.stringify([...headers])}`);
  const length = Number(lengths[0]);
  return bytes.length < length
    ? undefined
    : { content: bytes.subarray(0, length), rest: bytes.subarray(length) };
}

function readChunks(bytes: Buffer) {
  const chunks: Buffer[] = [];
  for (let at = 0; ; ) {
    const end = bytes.indexOf('\r\n', at);
    if (end < 0) return undefined;
    const line = bytes.toString('latin1', at, end);
    if (!/^[0-9a-f]{1,8}$/i.test(line)) throw new Malformed(`chunk size: ${line.slice(0, 80)}`);
    const size = Number.parseInt(line, 16);
    const next = end + 2 + size + 2;
    if (bytes.length < next) return undefined;
    if (bytes.toString('latin1', next - 2, next) !== '\r\n') throw new Malformed('chunk without an end');
    if (size === 0) return { content: Buffer.concat(chunks), rest: bytes.subarray(next) };
    chunks.push(bytes.subarray(end + 2, end + 2 + size));
    at = next;
  }
}
