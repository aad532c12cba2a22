import { base64url } from 'jose';
import { invalidToken } from './errors.ts';

export interface CompactJws {
  readonly header: Readonly<Record<string, unknown>>;
  readonly payload: Readonly<Record<string, unknown>>;
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Takes a JWT in compact form apart, its signature unverified.
 * @throws {Refusal} unless it is three parts of base64url, in the one form that each has, the first two of them JSON objects
 */
export function parseCompactJws(jwt: string): CompactJws {
  const parts = jwt.split('.');
  // Five of them are a JWE: there is no key here to open it with.
  if (parts.length !== 3) throw invalidToken('format', 'The access token is no signed JWT');
  if (!parts.every(isCanonicalBase64url)) throw invalidToken('base64url', 'The access token is no base64url');
  const [header = '', payload = ''] = parts;
  return { header: parseObject(header), payload: parseObject(payload) };
}

/** Without padding, other alphabets, or bits left over: one JWT has one spelling (RFC 4648 §3.5). An empty part has none. */
function isCanonicalBase64url(part: string): boolean {
  if (!/^[\w-]+$/.test(part)) return false;
  const last = part.slice(-1);
  if (part.length % 4 === 1) return false;
  if (part.length % 4 === 2) return 'AQgw'.includes(last);
  return part.length % 4 === 0 || 'AEIMQUYcgkosw048'.includes(last);
}

/** Deeper JSON is nobody's token; what is presented has no signature yet that would vouch for it. */
const depthLimit = 32;

function parseObject(part: string): Record<string, unknown> {
  let value: unknown;
  let isUnique: boolean;
  try {
    const text = decoder.decode(base64url.decode(part));
    value = JSON.parse(text);
    isUnique = countMembers(value, 0) === countNames(text);
  } catch {
    throw invalidToken('json', 'The access token is no JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidToken('json', 'The access token is no JSON object');
  }
  if (!isUnique) throw invalidToken('json', 'The access token has a member twice');
  return value as Record<string, unknown>;
}

/** Names in a JSON text: strings before a colon. Duplicates (RFC 7515 §4, RFC 7519 §4) are more names than members. */
function countNames(json: string): number {
  let names = 0;
  for (const [, colon] of json.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"\s*(:?)/g)) if (colon) names += 1;
  return names;
}

/** @throws {RangeError} for JSON that is too deep */
function countMembers(value: unknown, depth: number): number {
  if (typeof value !== 'object' || value === null) return 0;
  if (depth > depthLimit) throw new RangeError('too deep');
  const members = Object.values(value);
  let count = Array.isArray(value) ? 0 : members.length;
  for (const member of members) count += countMembers(member, depth + 1);
  return count;
}
