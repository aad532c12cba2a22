import { type Artifacts, createArtifacts } from './artifacts.ts';
import { type AuditEvents, createAuditEvents } from './audit-events.ts';
import { type AuditTrail, createAuditTrail } from './audit-trail.ts';
import { type Clients, createClients } from './clients.ts';
import { type CountedEvents, createCountedEvents } from './counted-events.ts';
import type { Database } from './database.ts';
import { createExchangeEvents, type ExchangeEvents } from './exchange-events.ts';
import { createLeakReports, type LeakReports } from './leak-reports.ts';
import { createMemberships, type Memberships } from './memberships.ts';
import { createOrganizations, type Organizations } from './organizations.ts';
import { createPlatformTokens, type PlatformTokens } from './platform-tokens.ts';
import { createRateLimits, type RateLimits } from './rate-limits.ts';
import { createRetention, type Retention } from './retention.ts';
import { createServices, type Services } from './services.ts';
import { createSigningKeys, type SigningKeys } from './signing-keys.ts';
import { createStatusLists, type StatusLists } from './status-lists.ts';
import { createUsageRecorder, type UsageDeps, type UsageRecorder } from './usage.ts';
import { createUsers, type Users } from './users.ts';

/** A factory a table, over one database. */
export interface Stores {
  readonly artifacts: Artifacts;
  readonly auditEvents: AuditEvents;
  readonly auditTrail: AuditTrail;
  readonly clients: Clients;
  readonly countedEvents: CountedEvents;
  readonly exchangeEvents: ExchangeEvents;
  readonly leakReports: LeakReports;
  readonly memberships: Memberships;
  readonly organizations: Organizations;
  readonly platformTokens: PlatformTokens;
  readonly rateLimits: RateLimits;
  readonly retention: Retention;
  readonly services: Services;
  readonly signingKeys: SigningKeys;
  readonly statusLists: StatusLists;
  readonly usage: UsageRecorder;
  readonly users: Users;
}

export function createStores(database: Database, onUsageError: UsageDeps['onError']): Stores {
  const { knex } = database;
  const auditEvents = createAuditEvents(knex);
  const exchangeEvents = createExchangeEvents(knex);
  return {
    artifacts: createArtifacts(knex),
    auditEvents,
    auditTrail: createAuditTrail(knex),
    clients: createClients(knex),
    countedEvents: createCountedEvents({ auditEvents, onError: onUsageError }),
    exchangeEvents,
    leakReports: createLeakReports(knex),
    memberships: createMemberships(knex),
    organizations: createOrganizations(knex),
    platformTokens: createPlatformTokens(database),
    rateLimits: createRateLimits(knex),
    retention: createRetention(knex),
    services: createServices(knex),
    signingKeys: createSigningKeys(database),
    statusLists: createStatusLists(knex),
    usage: createUsageRecorder({ exchangeEvents, onError: onUsageError }),
    users: createUsers(knex),
  };
}
