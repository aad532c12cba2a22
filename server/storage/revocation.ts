import type { Knex } from 'knex';
import type { AuditEvent, AuditEvents } from './audit-events.ts';
import type { PlatformTokens, RevokedToken, TokenFilter, Visibility } from './platform-tokens.ts';

export interface RevocationStores {
  readonly platformTokens: PlatformTokens;
  readonly auditEvents: AuditEvents;
}

export interface Revocation {
  readonly choice: { readonly ids: readonly string[] } | TokenFilter;
  readonly visibility: Visibility;
  readonly actorId: string;
  readonly at: Date;
  /** For each token that changed: of revocations at once, one has it. */
  readonly event: (token: RevokedToken) => AuditEvent;
}

/** Revokes platform tokens and writes it into the audit trail: whoever revokes, neither is without the other. */
export async function revokeWithTrail(
  { platformTokens, auditEvents }: RevocationStores,
  { choice, visibility, actorId, at, event }: Revocation,
  transaction: Knex.Transaction,
): Promise<RevokedToken[]> {
  const revoked = await platformTokens.revoke(choice, visibility, { actorId, at }, transaction);
  await auditEvents.insert(revoked.map(event), transaction);
  return revoked;
}
