import type { Answer } from './answers.ts';

/** An answer that no request may bring about. */
export class Violation extends Error {}

/** The edge that a request is for, which says what an error looks like there. */
export type Edge = 'oauth' | 'admin' | 'other' | 'any';

export function edgeOf(target: string): Edge {
  const path = target.replace(/[?#].*$/s, '');
  if (/^\/oauth\/(token|introspect|revoke)$/.test(path)) return 'oauth';
  return path.startsWith('/admin/') ? 'admin' : 'other';
}

const one = ({ headers }: Answer, name: string) => headers.get(name)?.join(', ') ?? '';

/** The server is asked more than this machine can do: what was sent is to be sent again, and says nothing about the request. */
export const isShed = ({ status, body }: Answer): boolean =>
  status === 503 && /the server is busy; try again/i.test(body.toString('latin1'));

/**
 * What holds for every answer, whoever asked for whatever.
 * @param canary stood in the request, and must not stand in an error
 * @throws Violation
 */
export function verifyAnswer(
  answer: Answer,
  edge: Edge,
  { canary, bodiless }: { canary: string; bodiless: boolean },
) {
  const { status, headers, head, body } = answer;
  const refuse = (what: string): never => {
    throw new Violation(`${what}\n${head.replaceAll('\r\n', '\n')}\n\n${body.toString('utf8', 0, 500)}`);
  };
  if (status >= 500) refuse('a 5xx');
  if (one(answer, 'x-content-type-options') !== 'nosniff') refuse('no X-Content-Type-Options: nosniff');
  if (one(answer, 'referrer-policy') !== 'no-referrer') refuse('no Referrer-Policy: no-referrer');
  if (!/default-src 'none'.*frame-ancestors 'none'/.test(one(answer, 'content-security-policy')))
    refuse('no Content-Security-Policy');
  if (headers.has('server') || headers.has('x-powered-by')) refuse('says what it runs on');
  for (const [name, values] of headers) {
    if (values.length > 1 && name !== 'set-cookie' && name !== 'vary') refuse(`${name} comes twice`);
  }
  if (/^x-injected/im.test(head)) refuse('a header of the request has become one of the answer');

  const secret =
    headers.has('set-cookie') ||
    /eyJ[\w-]{20,}\.|ptk_[0-9A-Za-z]{49}|"client_secret":"/.test(body.toString('latin1'));
  const location = one(answer, 'location');
  if (secret || /[?&#]code=/.test(location)) {
    if (!/no-store/.test(one(answer, 'cache-control')) && !isStatusList(answer))
      refuse('a secret that may be cached');
  }
  if (status === 401 && !headers.has('www-authenticate')) refuse('a 401 without a challenge');
  if (status === 405 && !headers.has('allow')) refuse('a 405 without Allow');
  if (status < 400) return;

  if (!/no-store/.test(one(answer, 'cache-control'))) refuse('an error that may be cached');
  if (bodiless) return;
  const text = body.toString();
  // Unknown members are named, by RFC 6901 pointers, where they look like names.
  if (text.replace(/"pointer":"[^"]*"/g, '').includes(canary) && !echoes(answer))
    refuse('an error that says what the request said');
  const type = one(answer, 'content-type');
  if (/^text\/html/.test(type)) {
    if (edge === 'oauth' || edge === 'admin') refuse('an error as a page');
    return;
  }
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return refuse('an error that is no JSON');
  }
  if (/^application\/problem\+json/.test(type)) {
    // What could not be read as a request has reached no endpoint, and has no id.
    if (edge === 'oauth' && headers.has('x-request-id')) refuse('a problem where an OAuth error belongs');
    if (typeof value.type !== 'string' || typeof value.title !== 'string' || value.status !== status)
      refuse('no problem document (RFC 9457)');
    return;
  }
  if (edge === 'admin') refuse('no problem document');
  if (!/^application\/json/.test(type)) refuse('an error without a type');
  // RFC 6749 §5.2
  if (typeof value.error !== 'string' || !/^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/.test(value.error))
    refuse('no `error`');
  const description = value.error_description;
  if (typeof description !== 'string' || !/^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/.test(description))
    refuse('an `error_description` with characters that none may have');
  const members = Object.keys(value).filter((name) => name !== 'error' && name !== 'error_description');
  if (members.length > 0) refuse(`members that no error has: ${members}`);
}

/** Signed, and for everybody to keep. */
const isStatusList = (answer: Answer) => /^application\/statuslist\+jwt/.test(one(answer, 'content-type'));

/** The sign-in form keeps the e-mail that was typed, and says that it did not fit the password. */
const echoes = (answer: Answer) => answer.status === 422 && /^text\/html/.test(one(answer, 'content-type'));
