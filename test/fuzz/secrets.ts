/** A secret that was found where none may be. */
export interface Leak {
  readonly kind: string;
  /** What stands around it, the secret's own characters masked. */
  readonly around: string;
}

export interface SecretScanner {
  /** @param kind what to call it in a report */
  add(kind: string, secret: string): void;
  /** Forgets all of them. */
  clear(): void;
  /** The secrets of which twelve characters or more in a row stand in these bytes, as they are or encoded. */
  scan(bytes: Buffer): Leak[];
}

/** Characters in a row that count as the secret: a log that cuts, splits or wraps it leaks it all the same. */
const window = 12;
/** Every secret is known by a window at each of these distances, and every place of a text is looked at. */
const stride = 4;
const base = 1_000_003;
const tableBits = 22;

/**
 * Finds any of very many secrets in one pass: a rolling hash over the text (Rabin and Karp), held against windows of
 * each secret in the forms that a log could have it in: as it is, base64 at each of three alignments, hexadecimal. What
 * percent-encoding and JSON change of a secret leaves runs that are found as they are, or in the encoded form.
 */
export function createSecretScanner(): SecretScanner {
  // Open addressing: place of the hash → number of the window, from 1.
  const table = new Uint32Array(1 << tableBits);
  const hashes = new Uint32Array(1 << (tableBits - 1));
  const windows: string[] = [''];
  const kinds: string[] = [''];
  const known = new Set<string>();

  let drop = 1;
  for (let step = 1; step < window; step += 1) drop = Math.imul(drop, base);

  function hashOf(bytes: Buffer): number {
    let hash = 0;
    for (const byte of bytes) hash = (Math.imul(hash, base) + byte) | 0;
    return hash >>> 0;
  }

  function index(kind: string, text: string): void {
    const hash = hashOf(Buffer.from(text, 'latin1'));
    let place = hash >>> (32 - tableBits);
    while (table[place] !== 0) {
      if (windows[table[place] as number] === text) return;
      place = (place + 1) & (table.length - 1);
    }
    if (windows.length >= hashes.length) throw new Error('more secrets than the scanner has room for');
    table[place] = windows.length;
    hashes[windows.length] = hash;
    windows.push(text);
    kinds.push(kind);
  }

  function find(hash: number, bytes: Buffer, at: number): number {
    for (
      let place = hash >>> (32 - tableBits);
      table[place] !== 0;
      place = (place + 1) & (table.length - 1)
    ) {
      const number = table[place] as number;
      if (hashes[number] === hash && windows[number] === bytes.toString('latin1', at, at + window))
        return number;
    }
    return 0;
  }

  return {
    clear() {
      table.fill(0);
      windows.length = 1;
      kinds.length = 1;
      known.clear();
    },
    add(kind, secret) {
      if (secret.length < window || known.has(secret)) return;
      known.add(secret);
      for (const form of formsOf(secret)) {
        for (let from = 0; from + window <= form.length; from += stride) {
          index(kind, form.slice(from, from + window));
        }
        index(kind, form.slice(-window));
      }
    },
    scan(bytes) {
      const leaks: Leak[] = [];
      let hash = 0;
      let reported = 0;
      for (let at = 0; at < bytes.length; at += 1) {
        if (at >= window) hash = (hash - Math.imul(bytes[at - window] as number, drop)) | 0;
        hash = (Math.imul(hash, base) + (bytes[at] as number)) | 0;
        // One report for a place, with what stands before it and nothing of the secret.
        if (at < window - 1 || at < reported) continue;
        const from = at - window + 1;
        const number = table[hash >>> (32 - tableBits)] === 0 ? 0 : find(hash >>> 0, bytes, from);
        if (number === 0) continue;
        const around = bytes.toString('latin1', Math.max(0, from - 160), from);
        leaks.push({ kind: kinds[number] as string, around: `${around}${'*'.repeat(window)}…` });
        reported = at + 512;
      }
      return leaks;
    },
  };
}

/** A secret as a log could have it. */
function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret);
  const encoded = [0, 1, 2].flatMap((skipped) => {
    const text = bytes.subarray(skipped).toString('base64url');
    // The last characters depend on what follows.
    return text.slice(0, -2);
  });
  return [
    secret,
    ...encoded,
    encoded.map((text) => text.replaceAll('-', '+').replaceAll('_', '/'))[0] as string,
    bytes.toString('hex'),
    encodeURIComponent(secret),
  ].filter((form) => form.length >= window);
}

/** Parts of a JWT that are its own: its header, and the beginning of its claims, are those of many. */
export function* partsOfJwt(jwt: string): Generator<string> {
  const [, payload = '', signature = ''] = jwt.split('.');
  yield signature;
  try {
    const { jti } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { jti?: string };
    const at = jti === undefined ? -1 : Buffer.from(payload, 'base64url').indexOf(jti);
    // 36 characters of base64 within the encoded `jti`.
    if (at >= 0) yield payload.slice(Math.ceil((at * 4) / 3) + 2, Math.ceil((at * 4) / 3) + 38);
  } catch {
    // Tampered with: what is left of it is in its signature.
  }
}
