import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { readOrCreateKeyEncryptionKey, SecretsError } from '../server/secrets.ts';

let dataDir: string;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'platform-tokens-secrets-'));
});
afterEach(() => rm(dataDir, { recursive: true, force: true }));

const read = (...kids: string[]) =>
  readOrCreateKeyEncryptionKey({ dataDir, signingKeyIds: async () => kids });

it.each([
  ['empty', ''],
  ['cut short', Buffer.alloc(31).toString('base64url')],
  ['no base64url', '?'.repeat(43)],
])('refuses a key file that is %s, and leaves it as it is', async (_what, text) => {
  await writeFile(join(dataDir, 'key-encryption-key'), text);
  await expect(read()).rejects.toThrow(SecretsError);
  expect((await stat(join(dataDir, 'key-encryption-key'))).size).toBe(text.length);
});

it('makes none where signing keys were sealed with one that is lost', async () => {
  await expect(read('kid-1')).rejects.toThrow(/is missing.*kid-1/);
  expect(await readdir(dataDir)).toEqual([]);
});

it('is one key, whole, for all that start at once, whatever their process ids, and nothing else stays', async () => {
  const path = join(dataDir, 'key-encryption-key');
  for (let round = 0; round < 25; round += 1) {
    const keys = await Promise.all(
      Array.from({ length: 20 }, (_, index) => setTimeout(index % 3).then(() => read())),
    );
    expect(new Set(keys.map((key) => key.toString('hex'))).size).toBe(1);
    expect(await readdir(dataDir)).toEqual(['key-encryption-key']);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    await rm(path);
  }
});
