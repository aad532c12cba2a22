import { findPlatformTokens } from './platform-token.ts';

// A path comes percent-encoded: `_`, `.` and the space may be written as %5F, %2E and %20.
const secrets =
  /[a-z][a-z0-9]{0,15}(?:_|%5f)[0-9A-Za-z]{40,}|eyJ[\w-]+(?:(?:\.|%2e)[\w-]*)+|(?:Basic|Bearer)(?:\s|%20|\+)+\S+/gi;

/** Without what could be a credential; else as it was. */
export function maskSecrets(text: string): string {
  return text.replace(secrets, '[redacted]');
}

/** The same for what a person has written to be read: words stay, and commits. */
export function maskTokens(text: string): string {
  return findPlatformTokens(text)
    .reduce((masked, token) => masked.replaceAll(token, '[redacted]'), text)
    .replace(/eyJ[\w-]+\.[\w-]+\.[\w-]*|(?:Basic|Bearer)\s+[\w+/=.~-]{16,}/gi, '[redacted]');
}

/** Free text from a request (a user agent) made fit for a log or the audit trail: no credential, no control characters, bounded. */
export function redact(text: string, maximumLength = 256): string {
  return maskSecrets(text.slice(0, 4096))
    .replace(/\p{Cc}/gu, ' ')
    .slice(0, maximumLength);
}
