import { base64url } from 'jose';
import { parseCompactJws } from './compact-jws.ts';
import { invalidToken, Refusal, unavailable } from './errors.ts';
import {
  createRemoteDocument,
  DocumentUnavailable,
  type RemoteDocument,
  type RemoteDocumentOptions,
  readAge,
  readBytes,
  readFreshness,
} from './remote-document.ts';
import { type SignatureRules, verifySignature } from './signature.ts';

/** Token Status List, draft-ietf-oauth-status-list. */

export interface StatusReference {
  readonly uri: string;
  readonly idx: number;
}

export interface StatusLists {
  /** @throws {Refusal} for a token whose status is not 0, VALID (§7.1), or where its list cannot be had */
  check(reference: StatusReference): Promise<void>;
}

export interface StatusListsOptions
  extends Pick<RemoteDocumentOptions<never>, 'clock' | 'fetch' | 'timeout'>,
    Pick<SignatureRules, 'keys' | 'algorithms'> {
  readonly issuer: string;
  /** Lists that are kept; the one that was not used for longest goes first. */
  readonly limit: number;
  /** Longest list, in bytes after decompression. */
  readonly sizeLimit: number;
  /** In seconds. */
  readonly clockTolerance: number;
  readonly onIssuerUnavailable: 'reject' | 'accept';
}

interface StatusList {
  readonly bits: number;
  readonly bytes: Uint8Array;
  /** Seconds since the epoch. */
  readonly iat: number;
  readonly exp: number | undefined;
  /** In seconds. */
  readonly ttl: number | undefined;
}

/** Where neither the list nor the answer says, and within what they are taken at their word, in seconds. */
const defaultFreshness = 60;
const leastFreshness = 1;
const mostFreshness = 24 * 60 * 60;

/**
 * The claim `status` of a token: only a list of the issuer's own is ever asked for.
 * @returns undefined for a token without one @throws {Refusal}
 */
export function readStatusReference(status: unknown, issuer: string): StatusReference | undefined {
  if (status === undefined) return undefined;
  const reference = (status as { status_list?: Partial<StatusReference> } | null)?.status_list;
  const { uri, idx } = reference ?? {};
  if (typeof uri !== 'string' || !Number.isSafeInteger(idx) || Number(idx) < 0) {
    throw invalidToken('status_claim', 'The status of the access token is no place in a status list');
  }
  const base = `${issuer}/oauth/status-lists/`;
  if (!uri.startsWith(base) || !/^[\w-]{1,64}$/.test(uri.slice(base.length))) {
    throw invalidToken('status_uri', 'The status list of the access token is not of its issuer');
  }
  return { uri, idx: Number(idx) };
}

/**
 * A list that was signed before the present one: of an instance that has lost its database, or of a cache, and what was revoked
 * meanwhile is not in it; or of an issuer whose clock was set back. Until a later one comes, what either refuses is refused.
 */
function addTo(present: StatusList, list: StatusList): StatusList {
  if (present.bits !== list.bits) return list;
  const [short, long] =
    present.bytes.length < list.bytes.length ? [present.bytes, list.bytes] : [list.bytes, present.bytes];
  const bytes = long.map((byte, index) => byte | (short[index] ?? 0));
  return { ...list, iat: present.iat, bytes };
}

/** The status lists that tokens name, each fetched at its first use. */
export function createStatusLists(options: StatusListsOptions): StatusLists {
  const { keys, algorithms, issuer, limit, sizeLimit, clock, clockTolerance, onIssuerUnavailable } = options;
  const lists = new Map<string, RemoteDocument<StatusList>>();

  async function parse(jwt: string, uri: string): Promise<StatusList> {
    try {
      const jws = parseCompactJws(jwt.trim());
      await verifySignature(jwt.trim(), jws, { keys, algorithms, typ: 'statuslist+jwt' });
      const list = await readStatusList(jws.payload, uri);
      const present = lists.get(uri)?.peek();
      return present && list.iat < present.iat ? addTo(present, list) : list;
    } catch (error) {
      // Without keys it is not the list that is at fault.
      if (error instanceof Refusal && error.options.code === 'temporarily_unavailable') {
        throw new DocumentUnavailable(error.message, false, error);
      }
      throw error;
    }
  }

  async function readStatusList(
    payload: Readonly<Record<string, unknown>>,
    uri: string,
  ): Promise<StatusList> {
    const { sub, iss, iat, exp, ttl } = payload;
    const { bits, lst } = (payload.status_list ?? {}) as { bits?: unknown; lst?: unknown };
    const now = clock() / 1000;
    if (sub !== uri) throw new TypeError('sub is another list');
    if (iss !== undefined && iss !== issuer) throw new TypeError('iss is another issuer');
    if (typeof iat !== 'number' || iat > now + clockTolerance) throw new TypeError('iat');
    if (exp !== undefined && !(typeof exp === 'number' && exp > now - clockTolerance))
      throw new TypeError('exp');
    if (ttl !== undefined && !(typeof ttl === 'number' && ttl > 0)) throw new TypeError('ttl');
    if (bits !== 1 && bits !== 2 && bits !== 4 && bits !== 8) throw new TypeError('bits');
    if (typeof lst !== 'string') throw new TypeError('lst');
    const zlib = new Response(base64url.decode(lst) as Uint8Array<ArrayBuffer>).body as ReadableStream<
      Uint8Array<ArrayBuffer>
    >;
    const bytes = await readBytes(zlib.pipeThrough(new DecompressionStream('deflate')), sizeLimit);
    return { bits, bytes, iat, exp, ttl };
  }

  /** `ttl` goes before `max-age`: it says how long a verifier, and not a cache before it, may go by its copy (§13.7). */
  function lifetime({ exp, ttl }: StatusList, headers: Headers): { fresh: number; usable: number } {
    const said = ttl === undefined ? readFreshness(headers) : ttl - readAge(headers);
    const fresh = Math.min(Math.max(said ?? defaultFreshness, leastFreshness), mostFreshness);
    const left = exp === undefined ? fresh : exp - clock() / 1000 + clockTolerance;
    return { fresh: Math.min(fresh, left), usable: left };
  }

  function listOf(uri: string): RemoteDocument<StatusList> {
    const list =
      lists.get(uri) ??
      createRemoteDocument({
        ...options,
        url: uri,
        accept: 'application/statuslist+jwt',
        // Compressed and in base64url, a list is never much longer than it is.
        sizeLimit: sizeLimit * 2,
        parse: (body) => parse(body, uri),
        lifetime,
      });
    lists.delete(uri);
    lists.set(uri, list);
    for (const oldest of lists.keys()) {
      if (lists.size <= limit) break;
      lists.delete(oldest);
    }
    return list;
  }

  async function check({ uri, idx }: StatusReference): Promise<void> {
    const document = listOf(uri);
    let list: StatusList;
    try {
      list = await document.get();
    } catch (error) {
      const away = error instanceof DocumentUnavailable && !error.answered;
      if (!away || onIssuerUnavailable === 'reject') {
        throw unavailable(
          'status_list_unavailable',
          'The status of the access token cannot be found out',
          error,
        );
      }
      const old = document.peek();
      // What was revoked when it was last seen is not let in because the issuer is away.
      if (old && statusAt(old, idx)) throw revoked();
      return;
    }
    const status = statusAt(list, idx);
    if (status === undefined) {
      throw invalidToken('status_index', 'The status list of the access token has no such place');
    }
    if (status !== 0) throw revoked();
  }

  return { check };
}

const revoked = (): Refusal => invalidToken('revoked', 'The access token was revoked');

/** The lowest place is in the lowest bits of the first byte (§4.1). @returns undefined beyond the end */
function statusAt({ bits, bytes }: StatusList, idx: number): number | undefined {
  const perByte = 8 / bits;
  const byte = bytes[Math.floor(idx / perByte)];
  return byte === undefined ? undefined : (byte >> ((idx % perByte) * bits)) & (2 ** bits - 1);
}
