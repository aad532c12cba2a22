import { retryAfterOf } from './backoff.ts';
import { withTimeout } from './clock.ts';
import { isRefusalCode, safeCause } from './errors.ts';
import type { Settings } from './options.ts';

export interface Grant {
  readonly accessToken: string;
  /** In seconds, from when the request was sent. */
  readonly expiresIn: number;
  readonly scope: string | undefined;
}

/** How one request ended. A fault passes; a refusal would come again. */
export type Outcome =
  | { readonly kind: 'granted'; readonly grant: Grant }
  | { readonly kind: 'refused'; readonly code: string }
  | { readonly kind: 'fault'; readonly cause: Error; readonly retryAfterMs: number | undefined };

const grantType = 'urn:ietf:params:oauth:grant-type:token-exchange';
const issuedTokenTypes = [
  'urn:ietf:params:oauth:token-type:access_token',
  'urn:ietf:params:oauth:token-type:jwt',
];
/** In bytes: an answer is one or two KiB. */
const bodyLimit = 64 * 1024;
/** In seconds. Nothing is believed to live longer: it is only renewed sooner. */
const longestLife = 24 * 60 * 60;

/** One request to the token endpoint (RFC 8693 §2.1). Never rejects. */
export async function exchange(settings: Settings, platformToken: string): Promise<Outcome> {
  try {
    return await withTimeout(settings.clock, settings.requestTimeoutMs, (signal) =>
      ask(settings, platformToken, signal),
    );
  } catch (error) {
    return fault(safeCause(error, platformToken));
  }
}

async function ask(settings: Settings, platformToken: string, signal: AbortSignal): Promise<Outcome> {
  const { tokenEndpoint, scope, subjectTokenType } = settings;
  const form = new URLSearchParams({ grant_type: grantType, subject_token: platformToken });
  if (subjectTokenType !== undefined) form.set('subject_token_type', subjectTokenType);
  if (scope !== undefined) form.set('scope', scope);
  const response = await settings.fetch(tokenEndpoint, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      accept: 'application/json',
      'user-agent': 'platform-tokens-client',
    },
    body: form.toString(),
    // Whoever can answer with a 307 would be sent the secret.
    redirect: 'manual',
    signal,
  });
  const outcome = await judge(response, platformToken);
  if (outcome.kind !== 'fault') return outcome;
  return { ...outcome, retryAfterMs: retryAfterOf(response.headers, settings.clock.date()) };
}

async function judge(response: Response, platformToken: string): Promise<Outcome> {
  const { status } = response;
  if (response.redirected) return leave(response, 'the answer came by a redirect');
  if (response.type === 'opaqueredirect' || (status >= 300 && status < 400))
    return leave(response, `the token endpoint answered ${status}: redirects are not followed`);
  if (status !== 200 && status !== 400 && status !== 401)
    return leave(response, `the token endpoint answered ${status}`);
  const answer = parseObject(await readText(response));
  if (!answer) return fault(new Error(`the token endpoint answered ${status} without a JSON object`));
  if (status === 200) return judgeGrant(answer, platformToken);
  // A gateway has errors of its own, in JSON too: those are no word of the server on the token.
  if (!isRefusalCode(answer.error)) return fault(new Error(`the token endpoint answered ${status}`));
  return { kind: 'refused', code: answer.error };
}

/** RFC 8693 §2.2.1. A 200 of anything else than the server, a captive portal's for one, has not these members. */
function judgeGrant(answer: Record<string, unknown>, platformToken: string): Outcome {
  const { access_token, token_type, expires_in, issued_token_type, scope } = answer;
  // RFC 6750 §2.1. It goes into a header and into shells.
  if (typeof access_token !== 'string' || !/^[\w.~+/-]{1,16384}={0,2}$/.test(access_token))
    return unusable('access_token');
  if (access_token === platformToken) return unusable('access_token');
  if (typeof token_type !== 'string' || token_type.toLowerCase() !== 'bearer') return unusable('token_type');
  if (typeof expires_in !== 'number' || !Number.isFinite(expires_in) || expires_in <= 0)
    return unusable('expires_in');
  if (typeof issued_token_type !== 'string' || !issuedTokenTypes.includes(issued_token_type))
    return unusable('issued_token_type');
  if (scope !== undefined && typeof scope !== 'string') return unusable('scope');
  const expiresIn = Math.min(expires_in, longestLife);
  return { kind: 'granted', grant: { accessToken: access_token, expiresIn, scope } };
}

const fault = (cause: Error): Outcome => ({ kind: 'fault', cause, retryAfterMs: undefined });
const unusable = (member: string) =>
  fault(new Error(`the token endpoint answered 200 without a usable ${member}`));

function leave(response: Response, message: string): Outcome {
  response.body?.cancel().catch(() => {});
  return fault(new Error(message));
}

/** @throws {Error} over the limit */
async function readText(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  if (!reader) return '';
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    bytes += value.byteLength;
    if (bytes > bodyLimit) {
      reader.cancel().catch(() => {});
      throw new Error(`the token endpoint answered with more than ${bodyLimit} bytes`);
    }
    text += decoder.decode(value, { stream: true });
  }
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
