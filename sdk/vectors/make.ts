import { constants, createHash, createPrivateKey, type KeyObject, privateEncrypt, sign } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { deflateSync } from 'node:zlib';
import { p256 } from '@noble/curves/nist.js';

/**
 * Makes the vectors anew, byte for byte: keys and times are fixed, and so are signatures. ECDSA's nonces are those of RFC 6979,
 * the salt of RSASSA-PSS is the hash of what is signed: both are ordinary signatures to a verifier, and no way to sign elsewhere.
 */

const issuer = 'https://id.example.com';
const audience = 'https://api.example.com/tms';
/** Seconds since the epoch, as all times here. */
const now = 1_800_000_000;
const folder = new URL('./', import.meta.url);

interface Jwk extends Record<string, string> {
  kid: string;
  alg: string;
}
type Json = Record<string, unknown>;

const privateKeys = (
  JSON.parse(readFileSync(new URL('private-keys.json', folder), 'utf8')) as { keys: Jwk[] }
).keys;

function keyOf(name: string): Jwk {
  const jwk = privateKeys.find(({ kid }) => kid === name);
  if (!jwk) throw new Error(`no key ${name}`);
  return jwk;
}

const toKey = (jwk: Jwk): KeyObject => createPrivateKey({ key: jwk, format: 'jwk' });
const encode = (value: string | Uint8Array): string => Buffer.from(value).toString('base64url');
const sha256 = (...parts: Uint8Array[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest();

function signWith(jwk: Jwk, input: Buffer): Buffer {
  if (jwk.alg === 'ES256') {
    return Buffer.from(p256.sign(input, Buffer.from(String(jwk.d), 'base64url'), { lowS: false }));
  }
  if (jwk.alg === 'PS256') return signPss(toKey(jwk), input);
  return sign(jwk.alg === 'RS256' ? 'sha256' : null, input, toKey(jwk));
}

/** RSASSA-PSS with SHA-256 (RFC 8017 §8.1.1, §9.1.1) for a key of 2,048 bits. */
function signPss(key: KeyObject, input: Buffer): Buffer {
  const salt = sha256(input);
  const hash = sha256(Buffer.alloc(8), sha256(input), salt);
  const db = Buffer.concat([Buffer.alloc(256 - 32 - 32 - 2), Buffer.from([1]), salt]);
  const mask = Buffer.concat(
    Array.from({ length: Math.ceil(db.length / 32) }, (_, i) => sha256(hash, Buffer.from([0, 0, 0, i]))),
  );
  const masked = db.map((byte, i) => byte ^ (mask[i] ?? 0));
  masked[0] = (masked[0] ?? 0) & 0x7f;
  const encoded = Buffer.concat([masked, hash, Buffer.from([0xbc])]);
  return privateEncrypt({ key, padding: constants.RSA_NO_PADDING }, encoded);
}

/** Header and payload as they are to be, in JSON or already written. */
function signJws(header: Json | string, payload: Json | string, jwk: Jwk): string {
  const write = (part: Json | string): string =>
    encode(typeof part === 'string' ? part : JSON.stringify(part));
  const input = `${write(header)}.${write(payload)}`;
  return `${input}.${encode(signWith(jwk, Buffer.from(input)))}`;
}

const es256 = keyOf('es256');
const header = { alg: 'ES256', kid: 'es256', typ: 'at+jwt' };
const listUri = (list: string): string => `${issuer}/oauth/status-lists/${list}`;
const claims = {
  iss: issuer,
  sub: '01890a5d-ac96-774b-bcce-b302099a8057',
  aud: audience,
  client_id: 'platform-tokens',
  iat: now - 60,
  exp: now + 14_340,
  jti: '01890a5d-ac96-774b-bcce-b302099a8058',
  scope: 'tms:read tms:write',
  org_id: '01890a5d-ac96-774b-bcce-b302099a8059',
  token_id: '01890a5d-ac96-774b-bcce-b302099a805a',
  status: { status_list: { idx: 7, uri: listUri('0') } },
};

const token = (more: Json = {}, moreHeader: Json = {}, jwk = es256): string =>
  signJws({ ...header, ...moreHeader }, { ...claims, ...more }, jwk);
const by = (kid: string, more: Json = {}): string => {
  const jwk = keyOf(kid);
  return token({}, { alg: jwk.alg, kid, ...more }, jwk);
};
const inList = (list: string, idx = 7): string =>
  token({ status: { status_list: { idx, uri: listUri(list) } } });
const without = (...names: string[]): string =>
  token(Object.fromEntries(names.map((name) => [name, undefined])));

/** Changes one character of a part, to another that is as canonical. */
function tamper(jwt: string, part: number): string {
  const parts = jwt.split('.');
  const text = parts[part] ?? '';
  parts[part] = text.slice(0, 10) + (text[10] === 'A' ? 'B' : 'A') + text.slice(11);
  return parts.join('.');
}

function replacePayload(jwt: string, more: Json): string {
  const [head, , signature] = jwt.split('.');
  return [head, encode(JSON.stringify({ ...claims, ...more })), signature].join('.');
}

/** The same bytes with the bits that are left over set: 86 characters of a signature of 64 bytes end in AQgw. */
const uncanonical = (jwt: string): string =>
  jwt.slice(0, -1) + { A: 'B', Q: 'R', g: 'h', w: 'x' }[jwt.slice(-1)];

/** HMAC with what everybody knows (RFC 8725 §2.1). */
function hmacWithPublicKey(): string {
  const input = `${encode(JSON.stringify({ ...header, alg: 'HS256' }))}.${encode(JSON.stringify(claims))}`;
  const secret = JSON.stringify(publicJwk(es256));
  const block = Buffer.alloc(64);
  (secret.length > 64 ? sha256(Buffer.from(secret)) : Buffer.from(secret)).copy(block);
  const inner = sha256(
    block.map((byte) => byte ^ 0x36),
    Buffer.from(input),
  );
  return `${input}.${encode(
    sha256(
      block.map((byte) => byte ^ 0x5c),
      inner,
    ),
  )}`;
}

function publicJwk({ d, p, q, dp, dq, qi, ...jwk }: Jwk): Json {
  return jwk;
}

/** Bits of a list (draft-ietf-oauth-status-list §4.1), the statuses given by place. */
function bitsOf(bits: number, size: number, statuses: Record<number, number>): Buffer {
  const bytes = Buffer.alloc((size * bits) / 8);
  for (const [idx, status] of Object.entries(statuses)) {
    const bit = Number(idx) * bits;
    bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (status << (bit & 7));
  }
  return bytes;
}

function list(name: string, more: Json = {}, bits = 1, bytes?: Buffer): Json {
  const status = bytes ?? bitsOf(bits, 131_072, { 42: 1, 131071: 1 });
  return {
    sub: listUri(name),
    iss: issuer,
    iat: now - 60,
    exp: now + 3_540,
    ttl: 60,
    status_list: { bits, lst: encode(deflateSync(status, { level: 9 })) },
    ...more,
  };
}
const listHeader = { alg: 'ES256', kid: 'es256', typ: 'statuslist+jwt' };
const signList = (payload: Json, more: Json = {}, jwk = es256): string =>
  signJws({ ...listHeader, ...more }, payload, jwk);

/** Answers of the issuer, by URI. */
const statusLists = Object.fromEntries(
  Object.entries({
    // Longer than the token whose leeway is tried.
    '0': signList(list('0', { exp: claims.exp + 3_600 })),
    'two-bits': signList(list('two-bits', {}, 2, bitsOf(2, 1_024, { 3: 1, 4: 2, 5: 3 }))),
    'four-bits': signList(list('four-bits', {}, 4, bitsOf(4, 1_024, { 9: 12 }))),
    'eight-bits': signList(list('eight-bits', {}, 8, bitsOf(8, 1_024, { 100: 255 }))),
    'of-another-uri': signList(list('0')),
    'of-another-issuer': signList(list('of-another-issuer', { iss: 'https://evil.example.com' })),
    'typ-jwt': signList(list('typ-jwt'), { typ: 'JWT' }),
    'no-typ': signList(list('no-typ'), { typ: undefined }),
    expired: signList(list('expired', { iat: now - 7_200, exp: now - 3_600 })),
    'iat-in-the-future': signList(list('iat-in-the-future', { iat: now + 3_600, exp: now + 7_200 })),
    'bits-3': signList(
      list('bits-3', { status_list: { bits: 3, lst: encode(deflateSync(Buffer.alloc(16))) } }),
    ),
    'not-zlib': signList(list('not-zlib', { status_list: { bits: 1, lst: encode(Buffer.alloc(64, 1)) } })),
    // 64 MiB of zeros in 87 KiB of base64url.
    bomb: signList(list('bomb', {}, 1, Buffer.alloc(64 * 1024 * 1024))),
    'foreign-key': signList(list('foreign-key'), {}, keyOf('foreign')),
    tampered: tamper(signList(list('tampered')), 2),
    'alg-none': `${encode(JSON.stringify({ typ: 'statuslist+jwt', alg: 'none' }))}.${encode(JSON.stringify(list('alg-none')))}.`,
    'no-lst': signList(list('no-lst', { status_list: { bits: 1 } })),
  }).map(([name, jwt]) => [listUri(name), jwt]),
);

interface Vector {
  readonly name: string;
  readonly rule: string;
  readonly jwt: string;
  readonly expect: 'accept' | { readonly error: string };
  readonly at: number;
}

const vectors: Vector[] = [];
const good = (name: string, jwt: string, at = now): void =>
  void vectors.push({ name, rule: 'accept', jwt, expect: 'accept', at });
const bad = (name: string, rule: string, jwt: string, { error = 'invalid_token', at = now } = {}): void =>
  void vectors.push({ name, rule, jwt, expect: { error }, at });

// Format
const plain = token();
const [plainHeader = '', plainPayload = '', plainSignature = ''] = plain.split('.');
bad('empty', 'format', '');
bad('no JWT at all', 'format', 'ptk_0000000000000000000000000000000000000000000000000');
bad('two parts', 'format', `${plainHeader}.${plainPayload}`);
bad('four parts', 'format', `${plain}.AAAA`);
bad(
  'JWE: five parts',
  'format',
  `${encode(JSON.stringify({ alg: 'RSA-OAEP', enc: 'A256GCM', kid: 'rs256' }))}.AAAA.AAAA.AAAA.AAAA`,
);
bad('longer than 8,192 characters', 'size', token({ padding: 'x'.repeat(9_000) }));
bad('padded base64url', 'base64url', `${plain}==`);
bad('base64 with + and /', 'base64url', by('rs256').replaceAll('-', '+').replaceAll('_', '/'));
bad('base64url with bits left over', 'base64url', uncanonical(plain));
bad('white space within', 'base64url', `${plainHeader}.\n${plainPayload}.${plainSignature}`);
bad('empty payload', 'base64url', `${plainHeader}..${plainSignature}`);
bad('header no JSON', 'json', signJws('{"alg":"ES256"', claims, es256));
bad('payload no JSON', 'json', signJws(header, 'claims', es256));
bad('payload a JSON array', 'json', signJws(header, JSON.stringify([claims]), es256));
bad(
  'payload no UTF-8',
  'json',
  (() => {
    const input = `${plainHeader}.${encode(Buffer.concat([Buffer.from('{"sub":"'), Buffer.from([0xff]), Buffer.from('"}')]))}`;
    return `${input}.${encode(signWith(es256, Buffer.from(input)))}`;
  })(),
);
bad(
  'a header member twice',
  'json',
  signJws(`{"alg":"none",${JSON.stringify(header).slice(1)}`, claims, es256),
);
bad(
  'a claim twice',
  'json',
  signJws(header, `{"aud":"https://api.example.com/other",${JSON.stringify(claims).slice(1)}`, es256),
);
bad(
  'a claim twice, once in escapes',
  'json',
  signJws(header, `{"\\u0061ud":"https://api.example.com/other",${JSON.stringify(claims).slice(1)}`, es256),
);

bad(
  'JSON of a depth of 2,000',
  'json',
  signJws(header, `{"a":${'['.repeat(2_000)}${']'.repeat(2_000)}}`, es256),
);

// Header
for (const typ of ['JWT', 'statuslist+jwt', 'id_token', ''])
  bad(`typ ${typ || 'empty'}`, 'typ', token({}, { typ }));
bad('no typ', 'typ', token({}, { typ: undefined }));
bad('typ a number', 'typ', token({}, { typ: 1 }));
good('typ application/at+jwt', token({}, { typ: 'application/at+jwt' }));
good('typ AT+JWT', token({}, { typ: 'AT+JWT' }));
bad(
  'alg none, no signature',
  'base64url',
  `${encode(JSON.stringify({ ...header, alg: 'none' }))}.${plainPayload}.`,
);
bad(
  'alg none, a signature',
  'alg',
  `${encode(JSON.stringify({ ...header, alg: 'none' }))}.${plainPayload}.${plainSignature}`,
);
bad(
  'alg NONE',
  'alg',
  `${encode(JSON.stringify({ ...header, alg: 'NONE' }))}.${plainPayload}.${plainSignature}`,
);
bad('HS256 with the public key', 'alg', hmacWithPublicKey());
bad('alg not allowed (ES384)', 'alg', token({}, { alg: 'ES384' }));
bad('no alg', 'alg', token({}, { alg: undefined }));
bad('crit with an unknown extension', 'crit', token({}, { crit: ['exp'], exp: now + 600 }));
bad('crit empty', 'crit', token({}, { crit: [] }));
bad('b64 false', 'crit', token({}, { b64: false, crit: ['b64'] }));
bad('b64 false without crit', 'crit', token({}, { b64: false }));
bad('no kid', 'kid', token({}, { kid: undefined }));
bad('kid a number', 'kid', token({}, { kid: 1 }));
bad('unknown kid', 'kid', token({}, { kid: 'unknown' }));
bad('kid a path', 'kid', token({}, { kid: '../../dev/null' }));
bad('key of another alg', 'key', token({}, { kid: 'rs256' }));
bad(
  'RS256 with the key for PS256',
  'key',
  token({}, { alg: 'RS256', kid: 'ps256' }, { ...keyOf('ps256'), alg: 'RS256' }),
);

// Signature
for (const kid of ['es256', 'rs256', 'ps256', 'eddsa']) good(`signed with ${keyOf(kid).alg}`, by(kid));
good('signed with Ed25519, by its name of RFC 9864', by('eddsa', { alg: 'Ed25519' }));
for (const kid of ['es256', 'rs256', 'ps256', 'eddsa']) {
  bad(`${keyOf(kid).alg}: signature changed`, 'signature', tamper(by(kid), 2));
}
bad('payload changed', 'signature', replacePayload(plain, { sub: '01890a5d-ac96-774b-bcce-b302099a8000' }));
bad(
  'header changed',
  'signature',
  `${encode(JSON.stringify({ ...header, x: 1 }))}.${plainPayload}.${plainSignature}`,
);
bad(
  'signature of another token',
  'signature',
  `${plainHeader}.${plainPayload}.${token({ jti: 'x' }).split('.')[2]}`,
);
bad('signature cut short', 'signature', `${plainHeader}.${plainPayload}.${plainSignature.slice(0, 80)}`);
bad('signature all zeros', 'signature', `${plainHeader}.${plainPayload}.${encode(Buffer.alloc(64))}`);
bad('a foreign key under a known kid', 'signature', token({}, {}, keyOf('foreign')));
bad(
  'a foreign key in the header (jwk)',
  'signature',
  token({}, { jwk: publicJwk(keyOf('foreign')) }, keyOf('foreign')),
);
bad(
  'a foreign key set (jku)',
  'signature',
  token({}, { jku: 'https://evil.example.com/jwks' }, keyOf('foreign')),
);
bad(
  'a foreign certificate (x5u)',
  'signature',
  token({}, { x5u: 'https://evil.example.com/x5u' }, keyOf('foreign')),
);
good(
  'jwk, jku and x5u in the header, signed by the issuer',
  token(
    {},
    {
      jwk: publicJwk(keyOf('foreign')),
      jku: 'https://evil.example.com/jwks',
      x5u: 'https://evil.example.com/x5u',
    },
  ),
);

// Claims
bad('iss another', 'iss', token({ iss: 'https://evil.example.com' }));
bad('iss with a slash at its end', 'iss', token({ iss: `${issuer}/` }));
bad('iss an array', 'iss', token({ iss: [issuer] }));
bad('no iss', 'iss', without('iss'));
bad('aud another', 'aud', token({ aud: 'https://api.example.com/other' }));
bad('aud a part of ours', 'aud', token({ aud: 'https://api.example.com' }));
bad('aud longer than ours', 'aud', token({ aud: `${audience}/v2` }));
bad(
  'aud an array without ours',
  'aud',
  token({ aud: ['https://api.example.com/other', 'https://api.example.com'] }),
);
bad('aud an empty array', 'aud', token({ aud: [] }));
bad('aud an array with a number', 'aud', token({ aud: [audience, 1] }));
bad('no aud', 'aud', without('aud'));
good('aud an array with ours', token({ aud: ['https://api.example.com/other', audience] }));
bad('expired', 'exp', plain, { at: claims.exp + 3_600 });
bad('expired, at the end of the leeway', 'exp', plain, { at: claims.exp + 60 });
good('expired, within the leeway', plain, claims.exp + 59);
bad('nbf in the future', 'nbf', token({ nbf: now + 61 }));
bad('nbf no number', 'nbf', token({ nbf: 'soon' }));
good('nbf in the future, within the leeway', token({ nbf: now + 60 }));
bad('iat in the future', 'iat', token({ iat: now + 61 }));
good('iat in the future, within the leeway', token({ iat: now + 60 }));
for (const name of ['exp', 'iat', 'sub', 'client_id', 'jti']) {
  bad(`no ${name}`, 'claims', without(name));
  bad(
    `${name} of another type`,
    'claims',
    token({ [name]: name === 'exp' || name === 'iat' ? String(now) : 1 }),
  );
}
bad('sub empty', 'claims', token({ sub: '' }));
bad('scope an array', 'claims', token({ scope: ['tms:read'] }));
good('claims that nobody knows', token({ department: { name: 'Ärzte', quoted: '"a":' } }));

// Scope
bad('no scope', 'scope', without('scope'), { error: 'insufficient_scope' });
bad('scope another', 'scope', token({ scope: 'tms:write' }), { error: 'insufficient_scope' });
bad('scope longer than ours', 'scope', token({ scope: 'tms:read-only' }), { error: 'insufficient_scope' });
bad('scope in other letters', 'scope', token({ scope: 'TMS:READ' }), { error: 'insufficient_scope' });

// Status
good('no status', without('status'));
good('last valid place of the list', inList('0', 131_070));
bad('revoked', 'revoked', inList('0', 42));
bad('revoked, at the last place of the list', 'revoked', inList('0', 131_071));
bad('place beyond the list', 'status_index', inList('0', 131_072));
for (const idx of [-1, 1.5, '7', null]) {
  bad(
    `place ${JSON.stringify(idx)}`,
    'status_claim',
    token({ status: { status_list: { idx, uri: listUri('0') } } }),
  );
}
bad('status without a list', 'status_claim', token({ status: {} }));
bad('status without a uri', 'status_claim', token({ status: { status_list: { idx: 7 } } }));
bad('status null', 'status_claim', token({ status: null }));
for (const uri of [
  'https://evil.example.com/oauth/status-lists/0',
  `${issuer}.evil.example.com/oauth/status-lists/0`,
  `${issuer}@evil.example.com/oauth/status-lists/0`,
  `${issuer}/oauth/status-lists/../jwks`,
  `${issuer}/oauth/status-lists/0?x=1`,
  `${issuer}/oauth/status-lists/`,
  'http://id.example.com/oauth/status-lists/0',
]) {
  bad(`list at ${uri}`, 'status_uri', token({ status: { status_list: { idx: 7, uri } } }));
}
good('valid, of two bits', inList('two-bits', 2));
for (const idx of [3, 4, 5]) bad(`status ${idx - 2}, of two bits`, 'revoked', inList('two-bits', idx));
good('valid, of four bits', inList('four-bits', 8));
bad('status 12, of four bits', 'revoked', inList('four-bits', 9));
good('valid, of eight bits', inList('eight-bits', 99));
bad('status 255, of eight bits', 'revoked', inList('eight-bits', 100));
for (const name of Object.keys(statusLists).map((uri) => uri.slice(listUri('').length))) {
  if (['0', 'two-bits', 'four-bits', 'eight-bits'].includes(name)) continue;
  bad(`status list that is bad: ${name}`, 'status_list_unavailable', inList(name), {
    error: 'temporarily_unavailable',
  });
}
bad('status list that is not there', 'status_list_unavailable', inList('999'), {
  error: 'temporarily_unavailable',
});

const write = (name: string, value: unknown): void =>
  writeFileSync(new URL(name, folder), `${JSON.stringify(value, null, 2)}\n`);
write('jwks.json', { keys: privateKeys.filter(({ kid }) => kid !== 'foreign').map(publicJwk) });
write('status-list.json', statusLists);
write('verifier.json', {
  issuer,
  audience,
  required_scopes: ['tms:read'],
  algorithms: ['ES256', 'RS256', 'PS256', 'EdDSA', 'Ed25519'],
  leeway: 60,
  token_size_limit: 8_192,
  status_list_size_limit: 1_048_576,
});
write('vectors.json', vectors);
