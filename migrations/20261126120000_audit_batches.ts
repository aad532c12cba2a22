import type { Knex } from 'knex';

/**
 * Sealed events: a batch has the hash of its events, and of the batch before it. A batch is of one month of one of the two
 * tables, and outlives the month.
 *
 * Events are taken in the order of (xid, at, id). A hash is SHA-256. Of an event, it is of the JSON array of its columns as
 * PostgreSQL writes it; of events, of their hashes one after the other; of a batch, of the JSON array of its columns. Times
 * are in milliseconds since 1970. Another column in one of the tables needs another name in its array's first place.
 */
export async function up(knex: Knex): Promise<void> {
  const { rows } = await knex.raw('SELECT quote_ident(current_schema()) AS schema');
  await knex.raw(`
    CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
      RAISE EXCEPTION 'the audit trail only grows: % of % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
    END $$;

    CREATE TABLE audit_batches (
      seq           bigint PRIMARY KEY,
      trail         text NOT NULL CHECK (trail IN ('audit_events', 'exchange_events')),
      month         date NOT NULL,
      -- The last of its events: the next batch of this table begins after it.
      last_xid      bigint NOT NULL,
      last_at       timestamptz(3) NOT NULL,
      last_id       uuid NOT NULL,
      events        integer NOT NULL CHECK (events > 0),
      events_hash   bytea NOT NULL CHECK (octet_length(events_hash) = 32),
      previous_hash bytea NOT NULL UNIQUE CHECK (octet_length(previous_hash) = 32),
      hash          bytea NOT NULL CHECK (octet_length(hash) = 32),
      sealed_at     timestamptz(3) NOT NULL
    );
    CREATE UNIQUE INDEX audit_batches_position ON audit_batches (trail, last_xid DESC, last_at DESC, last_id DESC);
    CREATE INDEX audit_batches_month ON audit_batches (trail, month, seq);
    CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_batches
      FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
    ALTER TABLE audit_batches ENABLE ALWAYS TRIGGER audit_append_only;
    ${sealNext(rows[0].schema)}
    ${seal(rows[0].schema)}
    REVOKE EXECUTE ON FUNCTION audit_seal(integer), audit_seal_next(text, text, text, bigint, timestamptz, uuid, bigint, integer)
      FROM PUBLIC;
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw(`
    DROP FUNCTION audit_seal(integer), audit_seal_next(text, text, text, bigint, timestamptz, uuid, bigint, integer);
    DROP TABLE audit_batches;
    DROP FUNCTION audit_refuse() CASCADE;
  `);
}

/** A batch for each month of the next \`most\` events after a place, where \`bound\` is what a transaction must be below. */
const sealNext = (schema: string) => `
  CREATE FUNCTION audit_seal_next(trail text, condition text, sequence text, xid bigint, at timestamptz, id uuid, bound bigint,
    most integer) RETURNS integer LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $seal$
  DECLARE
    canonical text := CASE trail
      WHEN 'audit_events' THEN 'json_build_array(''audit_events'', e.id, (extract(epoch FROM e.at) * 1000)::bigint, e.action, '
        'e.actor_type, e.actor_id, e.organization_id, e.token_id, e.target_id, e.ip, e.user_agent, e.request_id, e.reason, '
        'e.count, e.xid)'
      WHEN 'exchange_events' THEN 'json_build_array(''exchange_events'', e.id, (extract(epoch FROM e.at) * 1000)::bigint, '
        'e.organization_id, e.token_id, e.service_id, e.ip, e.user_agent, e.request_id, e.count, e.xid)' END;
    batch record;
    before record;
    sealed_at timestamptz(3) := clock_timestamp();
    total integer := 0;
  BEGIN
    FOR batch IN EXECUTE format('
      WITH taken AS (
        SELECT row_number() OVER (ORDER BY e.xid, e.at, e.id) AS n, e.xid, e.at, e.id,
          date_trunc(''month'', e.at)::date AS month, sha256(convert_to(%s::text, ''UTF8'')) AS hash
        FROM (SELECT e.* FROM ${schema}.%I e WHERE %s ORDER BY %s LIMIT $5) e
      ), months AS (
        SELECT month, count(*)::integer AS events, max(n) AS last, sha256(string_agg(hash, ''''::bytea ORDER BY n)) AS hash
        FROM taken GROUP BY month
      )
      SELECT m.*, t.xid AS last_xid, t.at AS last_at, t.id AS last_id FROM months m JOIN taken t ON t.n = m.last ORDER BY m.last',
      canonical, trail, condition, sequence) USING xid, at, id, bound, most
    LOOP
      SELECT b.seq, b.hash INTO before FROM ${schema}.audit_batches b ORDER BY b.seq DESC LIMIT 1;
      before.seq := coalesce(before.seq, 0) + 1;
      before.hash := coalesce(before.hash, decode(repeat('00', 32), 'hex'));
      INSERT INTO ${schema}.audit_batches VALUES (before.seq, trail, batch.month, batch.last_xid, batch.last_at, batch.last_id,
        batch.events, batch.hash, before.hash,
        sha256(convert_to(json_build_array('audit_batches', before.seq, trail, batch.month, batch.last_xid,
          (extract(epoch FROM batch.last_at) * 1000)::bigint, batch.last_id, batch.events, encode(batch.hash, 'hex'),
          encode(before.hash, 'hex'), (extract(epoch FROM sealed_at) * 1000)::bigint)::text, 'UTF8')), sealed_at);
      total := total + batch.events;
    END LOOP;
    RETURN total;
  END $seal$;
`;

/** Seals what no batch has yet, at most so many events of each table, and answers with the new batches. */
const seal = (schema: string) => `
  CREATE FUNCTION audit_seal(most integer) RETURNS TABLE (seq bigint, hash bytea, trail text, events integer)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $seal$
  DECLARE
    name text;
    head record;
    place record;
    taken integer;
    bound bigint;
  BEGIN
    -- One seals, for all instances: whoever comes second has nothing to do.
    IF NOT pg_try_advisory_xact_lock(7301443) THEN RETURN; END IF;
    SELECT coalesce(max(b.seq), 0) AS seq, max(b.last_xid) AS xid INTO head FROM ${schema}.audit_batches b;
    IF head.xid >= ${schema}.audit_xid(pg_snapshot_xmax(pg_current_snapshot())) THEN
      -- Restored into a server that has counted fewer transactions: events go on above what is sealed.
      EXECUTE format('CREATE OR REPLACE FUNCTION ${schema}.audit_xid(xid8) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT '
        'PARALLEL SAFE RETURN $1::text::bigint + %s', head.xid);
      RETURN;
    END IF;
    -- Each transaction below it has ended, and the statements that follow see all that it wrote.
    bound := ${schema}.audit_xid(pg_snapshot_xmin(pg_current_snapshot()));

    FOREACH name IN ARRAY ARRAY['audit_events', 'exchange_events'] LOOP
      SELECT b.last_xid AS xid, b.last_at AS at, b.last_id AS id INTO place FROM ${schema}.audit_batches b
        WHERE b.trail = name ORDER BY b.last_xid DESC, b.last_at DESC, b.last_id DESC LIMIT 1;
      IF NOT FOUND THEN
        SELECT 0::bigint AS xid, '-infinity'::timestamptz AS at, '00000000-0000-0000-0000-000000000000'::uuid AS id INTO place;
      END IF;
      taken := 0;
      -- Those from before events named their transaction, in the order of an index that is there; then the others.
      IF place.xid = 0 THEN
        taken := ${schema}.audit_seal_next(name, 'e.xid = $1 AND (e.at, e.id) > ($2, $3) AND $1 < $4', 'e.at, e.id',
          0, place.at, place.id, bound, most);
      END IF;
      IF taken < most THEN
        PERFORM ${schema}.audit_seal_next(name,
          'e.xid > 0 AND e.xid >= $1 AND e.xid < $4 AND (e.xid, e.at, e.id) > ($1, $2, $3)', 'e.xid, e.at, e.id',
          place.xid, place.at, place.id, bound, most - taken);
      END IF;
    END LOOP;
    RETURN QUERY SELECT b.seq, b.hash, b.trail, b.events FROM ${schema}.audit_batches b WHERE b.seq > head.seq ORDER BY b.seq;
  END $seal$;
`;
