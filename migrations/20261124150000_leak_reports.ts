import type { Knex } from 'knex';

/** Reports of leaked tokens that have been acted on, by the SHA-256 of their body: none counts twice. */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    CREATE TABLE leak_reports (
      digest      bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
      received_at timestamptz(3) NOT NULL
    );
    CREATE INDEX leak_reports_received ON leak_reports (received_at);
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('DROP TABLE leak_reports');
}
