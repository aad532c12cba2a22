// A path comes percent-encoded: `_`, `.` and the space may be written as %5F, %2E and %20.
const secrets =
  /[a-z][a-z0-9]{0,15}(?:_|%5f)[0-9A-Za-z]{40,}|eyJ[\w-]+(?:(?:\.|%2e)[\w-]*)+|(?:Basic|Bearer)(?:\s|%20|\+)+\S+/gi;

/** Free text from a request (path, user agent) made fit for a log or the audit trail: no credential, no control characters, bounded. */
export function redact(text: string, maximumLength = 256): string {
  return text
    .slice(0, 4096)
    .replace(secrets, '[redacted]')
    .replace(/\p{Cc}/gu, ' ')
    .slice(0, maximumLength);
}
