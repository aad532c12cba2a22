/** An error answer of an OAuth endpoint (RFC 6749 §5.2). The description never echoes the request. */
export class OAuthError extends Error {
  readonly status: number;
  readonly error: string;
  readonly description: string;
  constructor(status: number, error: string, description: string) {
    super(description);
    this.name = 'OAuthError';
    this.status = status;
    this.error = error;
    this.description = description;
  }
}

export function invalidRequest(description: string): OAuthError {
  return new OAuthError(400, 'invalid_request', description);
}

export function invalidClient(): OAuthError {
  return new OAuthError(401, 'invalid_client', 'client authentication failed');
}
