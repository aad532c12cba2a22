export type DomainErrorCode =
  | 'token_limit_reached'
  | 'not_a_member'
  | 'service_inactive'
  | 'organization_inactive'
  | 'user_inactive'
  | 'service_not_found'
  | 'organization_not_found'
  | 'user_not_found'
  | 'email_taken'
  | 'service_taken'
  | 'audience_taken'
  | 'password_not_allowed'
  | 'rotation_pending'
  | 'key_schedule_unsafe';

/** A rule of the product says no. Each edge maps the code to its own protocol in one table. */
export class DomainError extends Error {
  readonly code: DomainErrorCode;
  constructor(code: DomainErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'DomainError';
    this.code = code;
  }
}
