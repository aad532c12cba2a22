import { randomBytes, randomUUID } from 'node:crypto';
import { link, mkdir, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** The generated secrets in DATA_DIR cannot be used; the message says which file and why. */
export class SecretsError extends Error {}

export interface KeyEncryptionKeyDeps {
  readonly dataDir: string;
  /** Ids of the signing keys that the database holds: a new key could not open them. */
  readonly signingKeyIds: () => Promise<readonly string[]>;
}

/**
 * The key that the embedded database's secrets are sealed with: made once, kept in DATA_DIR for its owner only.
 * @throws SecretsError where the file is lost or broken: never a silent new key
 */
export async function readOrCreateKeyEncryptionKey({
  dataDir,
  signingKeyIds,
}: KeyEncryptionKeyDeps): Promise<Buffer> {
  const path = join(dataDir, 'key-encryption-key');
  const found = await readKey(path);
  if (found) return found;
  const kids = await signingKeyIds();
  if (kids.length > 0) {
    throw new SecretsError(
      `${path} is missing, and the signing keys ${kids.join(', ')} were sealed with it: put it back, or set KEY_ENCRYPTION_KEY`,
    );
  }
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  await writeKey(path, randomBytes(32).toString('base64url'));
  const created = await readKey(path);
  if (!created) throw new SecretsError(`${path} could not be written`);
  return created;
}

async function readKey(path: string): Promise<Buffer | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new SecretsError(`${path} cannot be read: ${message}`, { cause: error });
  }
  const key = Buffer.from(text.trim(), 'base64url');
  if (key.length !== 32) throw new SecretsError(`${path} does not hold a 32-byte key in base64url`);
  return key;
}

/** Whole or not at all, and never over one that another process has written first. */
async function writeKey(path: string, text: string): Promise<void> {
  // A random name, for containers on one volume share their process ids.
  const temporary = `${path}.${randomUUID()}`;
  const file = await open(temporary, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  try {
    await link(temporary, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}
