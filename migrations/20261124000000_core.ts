import type { Knex } from 'knex';

/**
 * The core tables. Times are timestamptz(3): what JavaScript's Date can hold, so that a cursor made from a row finds
 * the same row again. Ids are UUIDv7, made by the application.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    CREATE TABLE organizations (
      id         uuid PRIMARY KEY,
      name       text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
      status     text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'inactive')),
      created_at timestamptz(3) NOT NULL
    );

    CREATE TABLE users (
      id            uuid PRIMARY KEY,
      email         text NOT NULL CHECK (char_length(email) BETWEEN 3 AND 254),
      name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
      kind          text NOT NULL CHECK (kind IN ('person', 'service_account')),
      password_hash text,
      status        text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'inactive')),
      created_at    timestamptz(3) NOT NULL,
      CONSTRAINT service_accounts_have_no_password CHECK (kind = 'person' OR password_hash IS NULL)
    );
    CREATE UNIQUE INDEX users_email_key ON users (lower(email));

    CREATE TABLE memberships (
      organization_id uuid NOT NULL REFERENCES organizations (id),
      user_id         uuid NOT NULL REFERENCES users (id),
      role            text NOT NULL CHECK (role IN ('member', 'admin')),
      created_at      timestamptz(3) NOT NULL,
      PRIMARY KEY (organization_id, user_id)
    );
    CREATE INDEX memberships_user ON memberships (user_id);

    CREATE TABLE services (
      id         text PRIMARY KEY CHECK (id ~ '^[a-z0-9-]{1,64}$' AND id !~ '^-|-$'),
      name       text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
      audience   text NOT NULL UNIQUE CHECK (char_length(audience) <= 512),
      scopes     text[] NOT NULL,
      status     text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'inactive')),
      created_at timestamptz(3) NOT NULL
    );

    CREATE TABLE platform_tokens (
      id              uuid PRIMARY KEY,
      organization_id uuid NOT NULL REFERENCES organizations (id),
      user_id         uuid NOT NULL REFERENCES users (id),
      service_id      text NOT NULL REFERENCES services (id),
      name            text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
      digest          bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
      hint            text NOT NULL CHECK (char_length(hint) <= 8),
      scopes          text[] NOT NULL,
      created_at      timestamptz(3) NOT NULL,
      expires_at      timestamptz(3) NOT NULL CHECK (expires_at > created_at),
      last_used_at    timestamptz(3),
      last_used_ip    inet,
      revoked_at      timestamptz(3),
      revoked_by      text,
      CONSTRAINT revoked_by_somebody CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
    );
    -- The limit count and a user's own list.
    CREATE INDEX platform_tokens_owner ON platform_tokens (user_id, organization_id, created_at DESC, id DESC);
    CREATE INDEX platform_tokens_organization ON platform_tokens (organization_id, created_at DESC, id DESC);
    CREATE INDEX platform_tokens_service ON platform_tokens (service_id, created_at DESC, id DESC);
    CREATE INDEX platform_tokens_created ON platform_tokens (created_at DESC, id DESC);
    CREATE INDEX platform_tokens_expiry ON platform_tokens (expires_at) WHERE revoked_at IS NULL;

    CREATE TABLE clients (
      id            text PRIMARY KEY CHECK (char_length(id) BETWEEN 1 AND 64),
      name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
      secret_digest bytea CHECK (octet_length(secret_digest) = 32),
      grant_types   text[] NOT NULL,
      scopes        text[] NOT NULL,
      redirect_uris text[] NOT NULL,
      service_id    text REFERENCES services (id),
      created_at    timestamptz(3) NOT NULL
    );

    CREATE TABLE signing_keys (
      kid          text PRIMARY KEY,
      alg          text NOT NULL,
      public_jwk   jsonb NOT NULL,
      -- compact JWE (RFC 7516) of the private JWK, under KEY_ENCRYPTION_KEY
      private_jwe  text NOT NULL,
      published_at timestamptz(3) NOT NULL,
      activates_at timestamptz(3) NOT NULL CHECK (activates_at >= published_at),
      retires_at   timestamptz(3) CHECK (retires_at > activates_at)
    );

    -- The provider's opaque artifacts: under the SHA-256 of their value, the payload sealed.
    CREATE TABLE oidc_artifacts (
      kind         text NOT NULL,
      id_digest    bytea NOT NULL CHECK (octet_length(id_digest) = 32),
      payload      text NOT NULL,
      uid_digest   bytea,
      grant_digest bytea,
      consumed_at  timestamptz(3),
      expires_at   timestamptz(3) NOT NULL,
      PRIMARY KEY (kind, id_digest)
    );
    CREATE INDEX oidc_artifacts_uid ON oidc_artifacts (kind, uid_digest) WHERE uid_digest IS NOT NULL;
    CREATE INDEX oidc_artifacts_grant ON oidc_artifacts (grant_digest) WHERE grant_digest IS NOT NULL;
    CREATE INDEX oidc_artifacts_expiry ON oidc_artifacts (expires_at);

    CREATE TABLE audit_events (
      id              uuid PRIMARY KEY,
      at              timestamptz(3) NOT NULL,
      action          text NOT NULL CHECK (action ~ '^[a-z_]+\\.[a-z_]+$'),
      actor_type      text NOT NULL CHECK (actor_type IN ('user', 'client', 'token', 'system')),
      actor_id        text NOT NULL,
      organization_id uuid,
      token_id        uuid,
      target_id       text,
      ip              inet,
      user_agent      text,
      request_id      text,
      reason          text
    );
    CREATE INDEX audit_events_at ON audit_events (at DESC, id DESC);
    CREATE INDEX audit_events_organization ON audit_events (organization_id, at DESC, id DESC);
    CREATE INDEX audit_events_token ON audit_events (token_id, at DESC, id DESC) WHERE token_id IS NOT NULL;
    CREATE INDEX audit_events_actor ON audit_events (actor_id, at DESC, id DESC);
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw(
    'DROP TABLE audit_events, oidc_artifacts, signing_keys, clients, platform_tokens, services, memberships, users, organizations',
  );
}
