import type { Knex } from 'knex';

export const demonstration = {
  organizationId: '019ab000-0000-7000-8000-000000000001',
  adminId: '019ab000-0000-7000-8000-000000000002',
  memberId: '019ab000-0000-7000-8000-000000000003',
  adminEmail: 'admin@example.com',
  memberEmail: 'member@example.com',
} as const;

const services = [
  ['connectors', 'Connectors'],
  ['language-ai', 'Language AI'],
  ['strings', 'Strings'],
  ['studio', 'Studio'],
  ['tms', 'TMS'],
] as const;

/** A demonstration organization with a user in each role, and the five services. Does nothing where it is there already. */
export async function seed(knex: Knex): Promise<void> {
  const now = new Date();
  const { organizationId, adminId, memberId, adminEmail, memberEmail } = demonstration;
  await knex('organizations')
    .insert({ id: organizationId, name: 'Demonstration', created_at: now })
    .onConflict('id')
    .ignore();
  await knex('users')
    .insert([
      { id: adminId, email: adminEmail, name: 'Ada Admin', kind: 'person', created_at: now },
      { id: memberId, email: memberEmail, name: 'Max Member', kind: 'person', created_at: now },
    ])
    .onConflict()
    .ignore();
  await knex('memberships')
    .insert([
      { organization_id: organizationId, user_id: adminId, role: 'admin', created_at: now },
      { organization_id: organizationId, user_id: memberId, role: 'member', created_at: now },
    ])
    .onConflict()
    .ignore();
  await knex('services')
    .insert(
      services.map(([id, name]) => ({
        id,
        name,
        audience: `https://api.example.com/${id}`,
        scopes: [`${id}:read`, `${id}:write`],
        created_at: now,
      })),
    )
    .onConflict()
    .ignore();
}
