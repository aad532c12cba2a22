import { describe, expect, it } from 'vitest';
import { createPlatformToken } from '../../server/domain/platform-token.ts';
import { maskTokens, redact } from '../../server/domain/redaction.ts';

const { token } = createPlatformToken('ptk');
const jwt = 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c2VyIn0.c2lnbmF0dXJl';

describe('redaction', () => {
  it.each([
    ['a platform token', `curl/8 ${token}`, [token.slice(4, 20)]],
    ['a platform token in a path', `/oauth/token/${token}/x`, [token.slice(4, 20)]],
    ['a platform token in capitals', token.toUpperCase(), [token.toUpperCase().slice(4, 20)]],
    ['a percent-encoded platform token', `/x/${token.replace('_', '%5F')}`, [token.slice(4, 20)]],
    ['a percent-encoded JWT', `/x/${jwt.replaceAll('.', '%2e')}`, ['eyJ', 'c2lnbmF0dXJl']],
    ['percent-encoded bearer credentials', '/x/Bearer%20abc.def', ['abc.def']],
    ['two platform tokens', `${token},${token}`, [token.slice(4, 20)]],
    ['a JWT', `agent ${jwt} more`, ['eyJ', 'c2lnbmF0dXJl']],
    ['the start of a JWT', `agent ${jwt.slice(0, 40)}`, ['eyJ']],
    ['bearer credentials', 'Authorization: Bearer abc.def', ['abc.def']],
    ['basic credentials', 'basic dXNlcjpwYXNz', ['dXNlcjpwYXNz']],
    ['a token at the bound', `${'x '.repeat(115)}${token}`, [token.slice(4, 20)]],
  ])('takes out %s', (_name, text, secrets) => {
    const redacted = redact(text);
    for (const secret of secrets) expect(redacted).not.toContain(secret);
    expect(redacted).toContain('[redacted]');
  });

  it.each([
    ['a platform token', `leaked ${token}, see mail`, 'leaked [redacted], see mail'],
    ['one that is glued to a word', `my${token}`, 'my[redacted]'],
    ['a JWT', `had ${jwt}.`, 'had [redacted].'],
    ['credentials', 'sent Basic dXNlcjpwYXNzd29yZA== to me', 'sent [redacted] to me'],
  ])('takes out %s of what a person wrote', (_name, text, masked) => {
    expect(maskTokens(text)).toBe(masked);
  });

  it('leaves what a person wrote as it is', () => {
    const text = `basic cleanup; bearer of bad news: build_${'0123456789abcdef'.repeat(3)}0`;
    expect(maskTokens(text)).toBe(text);
  });

  it('leaves ordinary text alone', () => {
    const agent = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36';
    expect(redact(agent)).toBe(agent);
  });

  it('takes out control characters, so that no line can be forged', () => {
    expect(redact('a\r\nb\tc\u0000d\u0085e')).not.toMatch(/\p{Cc}/u);
  });

  it('is bounded', () => {
    expect(redact('x'.repeat(100_000))).toHaveLength(256);
    expect(redact('x'.repeat(100), 10)).toHaveLength(10);
  });
});
