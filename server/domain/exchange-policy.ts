import { policy } from '../../config/policy.ts';

/** What storage knows of a presented platform token, at this moment. */
export interface ExchangeSubject {
  readonly id: string;
  readonly organizationId: string;
  readonly userId: string;
  readonly serviceId: string;
  readonly audience: string;
  readonly scopes: readonly string[];
  /** Place in the status lists. */
  readonly statusIndex: number;
  readonly expiresAt: Date;
  readonly revokedAt: Date | null;
  /** The user, the organization and the service are active, and the user is a member. */
  readonly active: boolean;
}

export interface ExchangeRequest {
  readonly scope: string | undefined;
  readonly resource: string | readonly string[] | undefined;
  readonly audience: string | readonly string[] | undefined;
}

export type ExchangeRefusal = 'invalid_subject_token' | 'invalid_scope' | 'invalid_target';

export type ExchangeDecision =
  | { readonly granted: true; readonly scope: string; readonly audience: string; readonly expiresIn: number }
  | { readonly granted: false; readonly refusal: ExchangeRefusal };

/**
 * May this token be exchanged for that, and for how long (seconds)? The subject is judged before the request's
 * wishes, so that a dead token gets one and the same answer whatever else was asked.
 */
export function decideExchange(
  subject: ExchangeSubject | undefined,
  request: ExchangeRequest,
  now: Date,
): ExchangeDecision {
  const remaining = remainingLife(subject, now);
  if (!subject || remaining < 1) return refuse('invalid_subject_token');

  // RFC 8707 §2, RFC 8693 §2.1: the one target is the token's own service.
  if (!isTarget(request.resource, [subject.audience])) return refuse('invalid_target');
  if (!isTarget(request.audience, [subject.audience, subject.serviceId])) return refuse('invalid_target');

  const scopes = decideScopes(subject.scopes, request.scope);
  if (!scopes) return refuse('invalid_scope');
  return {
    granted: true,
    scope: scopes.join(' '),
    audience: subject.audience,
    expiresIn: Math.min(policy.accessTokenLifetime, remaining),
  };
}

/** Whole seconds for which the token is still good; 0 where it is revoked, or its user, organization or service inactive. */
export function remainingLife(subject: ExchangeSubject | undefined, now: Date): number {
  if (!subject || subject.revokedAt || !subject.active) return 0;
  return Math.max(0, Math.floor((subject.expiresAt.getTime() - now.getTime()) / 1000));
}

/** Why a token that is known is good for nothing: for the audit trail, never for the caller. */
export function whyRefused({ revokedAt, active }: ExchangeSubject): 'revoked' | 'inactive' | 'expired' {
  if (revokedAt) return 'revoked';
  return active ? 'expired' : 'inactive';
}

function isTarget(wanted: string | readonly string[] | undefined, targets: readonly string[]): boolean {
  if (wanted === undefined) return true;
  return typeof wanted === 'string' && targets.includes(wanted);
}

/** The granted scopes in the token's own order, or undefined where more is asked than it has. */
function decideScopes(granted: readonly string[], wanted: string | undefined): readonly string[] | undefined {
  if (wanted === undefined) return granted;
  const asked = new Set(wanted.split(' '));
  const allowed = granted.filter((scope) => asked.has(scope));
  return allowed.length === asked.size ? allowed : undefined;
}

function refuse(refusal: ExchangeRefusal): ExchangeDecision {
  return { granted: false, refusal };
}
