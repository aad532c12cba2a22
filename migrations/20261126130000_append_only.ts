import type { Knex } from 'knex';
import { withShortLocks } from '../server/storage/short-locks.ts';

/** The short locks of each step are given up and tried again: no transaction around them. */
export const config = { transaction: false };

/**
 * The trail only grows: triggers refuse to change or empty it, whoever tries. Months are made and dropped by functions that
 * run as the owner, so that the role which serves needs no more than to read and to insert. They go by PostgreSQL's own
 * clock, and drop nothing that is younger than `audit_retention_months` says, or not sealed. Nobody else can write to a schema of their
 * `search_path`.
 */
export async function up(knex: Knex): Promise<void> {
  const { rows } = await knex.raw('SELECT quote_ident(current_schema()) AS schema');
  await withShortLocks(knex, [], (transaction) => transaction.raw(functions(rows[0].schema)));
  for (const trail of ['audit_events', 'exchange_events']) {
    await withShortLocks(knex, [trail], (transaction) =>
      transaction.raw(`
        DROP TRIGGER IF EXISTS audit_append_only ON ${trail};
        CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON ${trail} FOR EACH ROW EXECUTE FUNCTION audit_refuse();
        SELECT audit_protect('${trail}'), (SELECT count(audit_protect(inhrelid)) FROM pg_inherits WHERE inhparent = '${trail}'::regclass);
      `),
    );
  }
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw(`
    DROP FUNCTION audit_drop_partition(text), audit_make_partition(text), audit_retention_months(text), audit_protect(regclass);
  `);
}

const functions = (schema: string) => `
  -- PostgreSQL passes on to partitions what is for each row, and no more. ALWAYS: for a session that plays a replica too.
  CREATE OR REPLACE FUNCTION audit_protect(events regclass) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
  BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = events AND tgname = 'audit_not_emptied') THEN
      EXECUTE format('CREATE TRIGGER audit_not_emptied BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION ${schema}.audit_refuse()',
        events);
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER audit_not_emptied', events);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER audit_append_only', events);
  END $$;

  CREATE OR REPLACE FUNCTION audit_retention_months(trail text) RETURNS integer LANGUAGE sql IMMUTABLE STRICT
    RETURN CASE trail WHEN 'audit_events' THEN 36 WHEN 'exchange_events' THEN 13 END;

  -- Makes the first partition that is due: of this month, of the next two, and of what lies in the default partition. Attached,
  -- for what is made as a partition locks the whole table.
  CREATE OR REPLACE FUNCTION audit_make_partition(trail text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
  DECLARE
    parent regclass := format('${schema}.%I', trail);
    strays regclass := format('${schema}.%I', trail || '_default');
    this_month date := date_trunc('month', now());
    months date[];
    month date;
    name text;
  BEGIN
    IF ${schema}.audit_retention_months(trail) IS NULL OR NOT pg_try_advisory_xact_lock(7301444) THEN RETURN NULL; END IF;
    -- The list first: a table that is being read cannot be changed.
    EXECUTE format('
      SELECT array_agg(month ORDER BY month) FROM (
        SELECT ($1 + n * interval ''1 month'')::date AS month FROM generate_series(0, 2) n
        UNION SELECT date_trunc(''month'', at)::date FROM %s
          WHERE at >= ''2000-01-01'' AND at < $1 + interval ''3 months'') due', strays) INTO months USING this_month;
    FOREACH month IN ARRAY months LOOP
      name := format('%s_%s', trail, to_char(month, 'YYYY_MM'));
      CONTINUE WHEN EXISTS (
        SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = parent AND (c.relname = name
          -- What was there before there were months.
          OR (c.relname LIKE trail || '\\_before\\_%' AND to_char(month, 'YYYY_MM') < right(c.relname, 7))));
      -- A writer that is on its way to the default partition would find that its row belongs there no longer.
      IF month <= this_month THEN EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', parent); END IF;
      EXECUTE format('CREATE TABLE ${schema}.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name, parent);
      -- A move is no change: atomic, and only the owner of the table can do it.
      EXECUTE format('ALTER TABLE %s DISABLE TRIGGER audit_append_only', strays);
      EXECUTE format('WITH moved AS (DELETE FROM %s WHERE at >= %L AND at < %L RETURNING *) INSERT INTO ${schema}.%I SELECT * FROM moved',
        strays, month, month + interval '1 month', name);
      EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER audit_append_only', strays);
      EXECUTE format('ALTER TABLE %s ATTACH PARTITION ${schema}.%I FOR VALUES FROM (%L) TO (%L)',
        parent, name, month::timestamptz, (month + interval '1 month')::timestamptz);
      PERFORM ${schema}.audit_protect(format('${schema}.%I', name));
      RETURN name;
    END LOOP;
    RETURN NULL;
  END $$;

  -- Drops the first partition of which all is older than its retention, and sealed.
  CREATE OR REPLACE FUNCTION audit_drop_partition(trail text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
  DECLARE
    parent regclass := format('${schema}.%I', trail);
    oldest date := date_trunc('month', now()) - ${schema}.audit_retention_months(trail) * interval '1 month';
    name text;
    sealed record;
    pending boolean;
  BEGIN
    IF NOT pg_try_advisory_xact_lock(7301444) THEN RETURN NULL; END IF;
    SELECT b.last_xid AS xid, b.last_at AS at, b.last_id AS id INTO sealed FROM ${schema}.audit_batches b
      WHERE b.trail = audit_drop_partition.trail ORDER BY b.last_xid DESC, b.last_at DESC, b.last_id DESC LIMIT 1;
    FOR name IN
      SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
      WHERE i.inhparent = parent AND c.relname ~ '_[0-9]{4}_[0-9]{2}$' ORDER BY right(c.relname, 7)
    LOOP
      CONTINUE WHEN oldest IS NULL OR oldest < to_date(right(name, 7), 'YYYY_MM')
        + CASE WHEN name LIKE '%\\_before\\_%' THEN interval '0' ELSE interval '1 month' END;
      EXECUTE format('SELECT EXISTS (SELECT FROM ${schema}.%I WHERE $1 IS NULL OR (xid, at, id) > ($1, $2, $3))', name)
        INTO pending USING sealed.xid, sealed.at, sealed.id;
      CONTINUE WHEN pending;
      EXECUTE format('DROP TABLE ${schema}.%I', name);
      RETURN name;
    END LOOP;
    RETURN NULL;
  END $$;

  REVOKE EXECUTE ON FUNCTION audit_make_partition(text), audit_drop_partition(text), audit_protect(regclass) FROM PUBLIC;
`;
