import type { Knex } from 'knex';
import { trails } from './audit-trail.ts';

/** The role cannot be what it should be: separate from the owner of the tables. */
export class GrantError extends Error {}

// What the server calls; the rest of them is called by these.
const functions = ['audit_seal(integer)', 'audit_make_partition(text)', 'audit_drop_partition(text)'];

/**
 * Lets a role serve and no more: read and write what is no trail, and read the trail and add to it. An event's transaction is
 * not for it to name, and batches are written by functions of the owner. To be repeated after each migration: what a migration
 * makes belongs to the owner alone until then. No default privileges: they would be the role's on partitions too.
 * @param knex as the owner of the tables
 * @throws GrantError
 */
export async function grantTo(knex: Knex, role: string): Promise<void> {
  await knex.transaction(async (transaction) => {
    await refuseOwners(transaction, role);
    const to = (statement: string) => transaction.raw(statement, { role });
    const { rows } = await transaction.raw(
      `SELECT quote_ident(current_schema()) AS schema, quote_ident(c.relname) AS name, c.relname AS plain, c.relispartition AS partition
       FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v')
       AND pg_has_role(c.relowner, 'USAGE') ORDER BY 1`,
    );
    await to(`GRANT USAGE ON SCHEMA ${rows[0].schema} TO :role:`);
    for (const { name, plain, partition } of rows) {
      await to(`REVOKE ALL ON ${name} FROM :role:`);
      const isTrail = (trails as readonly string[]).includes(plain);
      // A partition is reached by its parent, and needs nothing.
      if (partition || plain === 'knex_migrations_lock') continue;
      if (isTrail)
        await to(`GRANT SELECT, INSERT (${await eventColumns(transaction, plain)}) ON ${name} TO :role:`);
      else if (readOnly.has(plain)) await to(`GRANT SELECT ON ${name} TO :role:`);
      // Rows come and go with their tokens.
      else if (plain === 'platform_token_uses')
        await to(`GRANT SELECT, UPDATE (last_used_at, last_used_ip) ON ${name} TO :role:`);
      else await to(`GRANT SELECT, INSERT, UPDATE, DELETE ON ${name} TO :role:`);
    }
    for (const name of functions) await to(`GRANT EXECUTE ON FUNCTION ${name} TO :role:`);
  });
}

const readOnly = new Set(['audit_batches', 'audit_trail', 'knex_migrations']);

async function eventColumns(transaction: Knex.Transaction, table: string): Promise<string> {
  const { rows } = await transaction.raw(
    "SELECT attname AS name FROM pg_attribute WHERE attrelid = ?::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'xid' ORDER BY attnum",
    [table],
  );
  return rows.map(({ name }: { name: string }) => name).join(', ');
}

/**
 * Who owns the tables, or may become their owner, could take every trigger away; who owns their schema, or the database (whose
 * owner `public` belongs to from PostgreSQL 15 on), could drop the tables; and until 16, who may create roles joins any.
 */
async function refuseOwners(transaction: Knex.Transaction, role: string): Promise<void> {
  const { rows } = await transaction.raw(
    `SELECT r.rolsuper OR r.rolcreaterole AS super,
       pg_has_role(r.oid, c.relowner, 'MEMBER') OR pg_has_role(r.oid, n.nspowner, 'MEMBER')
         OR pg_has_role(r.oid, d.datdba, 'MEMBER') AS owner
     FROM pg_roles r, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_database d
     WHERE r.rolname = ? AND c.oid = 'audit_events'::regclass AND d.datname = current_database()`,
    [role],
  );
  if (!rows[0]) throw new GrantError(`there is no role ${role}`);
  const { super: isSuperuser, owner } = rows[0];
  if (isSuperuser)
    throw new GrantError(`the role ${role} is a superuser or may create roles, and may do everything`);
  if (owner)
    throw new GrantError(
      `the role ${role} owns the tables, their schema or the database, or is a member of a role that does`,
    );
}
