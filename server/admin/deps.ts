import type { KeyRing } from '../keys/key-ring.ts';
import type { AuditEvents } from '../storage/audit-events.ts';
import type { Clients } from '../storage/clients.ts';
import type { Transact } from '../storage/database.ts';
import type { Memberships } from '../storage/memberships.ts';
import type { Organizations } from '../storage/organizations.ts';
import type { PlatformTokens } from '../storage/platform-tokens.ts';
import type { Services } from '../storage/services.ts';
import type { SigningKeys } from '../storage/signing-keys.ts';
import type { Users } from '../storage/users.ts';

export interface AdminDeps {
  readonly issuer: string;
  readonly tokenPrefix: string;
  readonly clock: () => Date;
  readonly transaction: Transact;
  readonly platformTokens: PlatformTokens;
  readonly organizations: Organizations;
  readonly users: Users;
  readonly memberships: Memberships;
  readonly services: Services;
  readonly clients: Clients;
  readonly auditEvents: AuditEvents;
  readonly signingKeys: SigningKeys;
  readonly keyRing: KeyRing;
}
