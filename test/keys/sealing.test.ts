import { describe, expect, it } from 'vitest';
import { createSealer, UnknownSealingKey } from '../../server/keys/sealing.ts';

const oldKey = Buffer.alloc(32, 1);
const newKey = Buffer.alloc(32, 2);

describe('sealing', () => {
  it('opens what it sealed, and shows nothing of it', async () => {
    const sealer = createSealer([oldKey]);
    const sealed = await sealer.seal('a private key', 'keys');
    expect(await sealer.open(sealed, 'keys')).toBe('a private key');
    expect(Buffer.from(sealed.split('.')[3] ?? '', 'base64url').toString('latin1')).not.toContain('private');
    expect(sealed).not.toBe(await sealer.seal('a private key', 'keys'));
  });

  it('opens what an older key sealed once a newer one comes first, and seals with the newer', async () => {
    const before = await createSealer([oldKey]).seal('text', 'keys');
    const rotated = createSealer([newKey, oldKey]);
    expect(await rotated.open(before, 'keys')).toBe('text');
    const after = await rotated.seal('text', 'keys');
    expect(await createSealer([newKey]).open(after, 'keys')).toBe('text');
    await expect(createSealer([oldKey]).open(after, 'keys')).rejects.toThrow(UnknownSealingKey);
  });

  it('says that the key is unknown where it is not configured', async () => {
    const sealed = await createSealer([oldKey]).seal('text', 'keys');
    await expect(createSealer([newKey]).open(sealed, 'keys')).rejects.toThrow(UnknownSealingKey);
  });

  it('refuses what was sealed for another purpose', async () => {
    const sealer = createSealer([oldKey]);
    await expect(sealer.open(await sealer.seal('text', 'keys'), 'sessions')).rejects.toThrow(
      'another purpose',
    );
  });

  it.each([0, 2, 3, 4])('refuses what was tampered with in part %d', async (part) => {
    const sealer = createSealer([oldKey]);
    const parts = (await sealer.seal('a text that is long enough', 'keys')).split('.');
    if (part === 0) {
      const header = JSON.parse(Buffer.from(parts[0] ?? '', 'base64url').toString());
      parts[0] = Buffer.from(JSON.stringify({ ...header, purpose: 'sessions' })).toString('base64url');
    } else {
      const bytes = Buffer.from(parts[part] ?? '', 'base64url');
      bytes[0] = (bytes[0] ?? 0) ^ 1;
      parts[part] = bytes.toString('base64url');
    }
    await expect(sealer.open(parts.join('.'), part === 0 ? 'sessions' : 'keys')).rejects.toThrow();
  });

  it('needs a key', () => {
    expect(() => createSealer([])).toThrow('at least one');
  });

  it('derives cookie keys that are the same on every instance and differ by key', () => {
    const { cookieKeys } = createSealer([newKey, oldKey]);
    expect(cookieKeys).toEqual(createSealer([newKey, oldKey]).cookieKeys);
    expect(cookieKeys[1]).toBe(createSealer([oldKey]).cookieKeys[0]);
    expect(new Set(cookieKeys).size).toBe(2);
    expect(cookieKeys).not.toContain(newKey.toString('base64url'));
  });
});
