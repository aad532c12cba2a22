import type { Limits } from '../../config/policy.ts';
import { type Refusal, refusalFields } from '../http/rate-limit.ts';

/** An error answer of an OAuth endpoint (RFC 6749 §5.2). The description never echoes the request. */
export class OAuthError extends Error {
  readonly status: number;
  readonly error: string;
  readonly description: string;
  readonly fields: Readonly<Record<string, string>> | undefined;
  /** The client whose credentials were wrong, for the audit trail; the answer never tells that there is one. */
  clientId?: string | undefined;
  constructor(status: number, error: string, description: string, fields?: Readonly<Record<string, string>>) {
    super(description);
    this.name = 'OAuthError';
    this.status = status;
    this.error = error;
    this.description = description;
    this.fields = fields;
  }
}

export function invalidRequest(description: string): OAuthError {
  return new OAuthError(400, 'invalid_request', description);
}

/** @param clientId of a client that there is */
export function invalidClient(clientId?: string): OAuthError {
  const error = new OAuthError(401, 'invalid_client', 'client authentication failed');
  error.clientId = clientId;
  return error;
}

/**
 * One answer whatever the limit. RFC 6749 §5.2 has no word for it. `invalid_request` and `invalid_client` would read as a
 * verdict on the credential, `temporarily_unavailable` is the 503's here, and `slow_down` belongs to the device grant (RFC
 * 8628 §3.5). See docs/decisions/0011.
 */
export function tooManyRequests(refusal: Refusal, limits: Limits): OAuthError {
  const fields = refusalFields(refusal, limits[refusal.limit]);
  return new OAuthError(429, 'too_many_requests', 'too many requests; try again later', fields);
}
