import { z } from 'zod';
import { policy } from '../../config/policy.ts';
import { nameFault } from '../domain/name.ts';
import { findPlatformTokens } from '../domain/platform-token.ts';
import type { ListedEvent } from '../storage/audit-events.ts';
import type { Client } from '../storage/clients.ts';
import type { Member } from '../storage/memberships.ts';
import type { Organization } from '../storage/organizations.ts';
import type { PlatformToken } from '../storage/platform-tokens.ts';
import type { Service } from '../storage/services.ts';
import type { StoredSigningKey } from '../storage/signing-keys.ts';
import type { User } from '../storage/users.ts';

/** Everything that the admin API takes and gives, written once: it validates, types and describes. */

export const id = z.uuid().toLowerCase().meta({ description: 'UUIDv7' });
export const name = z
  .string()
  .superRefine((value, { addIssue }) => {
    const fault = nameFault(value);
    if (fault) addIssue(fault);
  })
  .trim()
  .meta({ description: '1 to 100 characters, no control or invisible characters', minLength: 1 });
export const slug = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$/,
    'must be 1 to 64 lower-case letters, digits and inner hyphens',
  );
export const status = z.enum(['active', 'inactive']);
const time = z.iso.datetime().meta({ description: 'RFC 3339, UTC' });
// RFC 6749 §3.3
const scopeToken = z
  .string()
  .regex(/^[\x21\x23-\x5b\x5d-\x7e]{1,64}$/, 'must be a scope token of at most 64 characters');
const scope = z.string().meta({ description: 'space-separated scopes' });
const freeText = z
  .string()
  .max(500)
  // Nor what ends a line to some readers of the trail, or turns it round.
  .regex(/^[^\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}]*$/u, 'must not contain control characters');
const email = z
  .string()
  .max(254)
  .regex(/^[^\s@\p{Cc}\p{Cf}\p{Cs}]{1,64}@[^\s@\p{Cc}\p{Cf}\p{Cs}]+$/u, 'must be an e-mail address')
  // They are listed, as names are.
  .refine((value) => findPlatformTokens(value).length === 0, 'must not contain a platform token');
const password = z
  .string()
  .max(1024)
  // As UTF-8, lone surrogates are all one.
  .refine((value) => value.isWellFormed(), 'must be Unicode text');
const absoluteUri = z
  .string()
  .max(512)
  .regex(/^[a-z][a-z0-9+.-]*:[\x21\x24-\x7e]+$/i, 'must be an absolute URI without fragment')
  .refine((value) => URL.canParse(value), 'must be an absolute URI');

const repeatable = <T extends z.ZodType>(item: T) =>
  z.preprocess(
    (value) => (value === undefined || Array.isArray(value) ? value : [value]),
    z.array(item).min(1).max(100).optional(),
  );

export const pageQuery = {
  limit: z.preprocess(
    // Number would also read 0x10, 1e1 and blanks.
    (value) => (/^[0-9]+$/.test(String(value)) ? Number(value) : value),
    z.int().min(1).max(policy.pageSizeMaximum).default(policy.pageSizeDefault),
  ),
  cursor: z.string().max(1024).optional(),
};

/** What creates something answers. */
export function created<T extends z.ZodType>(schema: T, description: string) {
  return {
    status: 201,
    description,
    schema,
    headers: {
      Location: {
        description: 'RFC 9110 §10.2.2: where it is from now on.',
        required: true,
        schema: { type: 'string', format: 'uri' },
      },
    },
  } as const;
}

/** What every list answers. */
export function pageOf<T extends z.ZodType>(item: T, description: string) {
  return {
    status: 200,
    description,
    schema: z.strictObject({
      data: z.array(item),
      next_cursor: z.string().nullable(),
      total: z
        .int()
        .min(0)
        .meta({
          description:
            'how many there are in all pages. ' +
            `Of events an estimate where there are more than ${policy.exactTotal}, of tokens over all organizations where there are more than ${policy.exactTotalOfAllTokens}.`,
        }),
    }),
    headers: {
      Link: {
        description:
          'RFC 8288: `rel="next"` and, on a page that a cursor led to, `rel="prev"`, where there is such a page. ' +
          `Left out where the query makes it longer than ${policy.linkHeaderLimit} bytes, \`next\` first.`,
        schema: { type: 'string' },
        example:
          '<https://id.example.com/admin/tokens?limit=50&cursor=WyIt>; rel="next", <https://id.example.com/admin/tokens?limit=50&cursor=WyJu>; rel="prev"',
      },
    },
  } as const;
}

export const tokenSchema = z
  .strictObject({
    id,
    name: z.string(),
    service: z.strictObject({ id: z.string(), name: z.string() }),
    organization_id: id,
    user_id: id,
    scope,
    hint: z.string(),
    status: z.enum(['active', 'expired', 'revoked']),
    created_at: time,
    expires_at: time,
    last_used_at: time.nullable(),
    last_used_ip: z.string().nullable(),
    revoked_at: time.nullable(),
    revoked_by: z.string().nullable().meta({
      description:
        'id of the user or client; of the token itself where it was presented for revocation; or of the part of the server that did it',
    }),
  })
  .meta({ id: 'Token' });
export const createdTokenSchema = tokenSchema
  .extend({ token: z.string().meta({ description: 'the secret, shown this once' }) })
  .meta({ id: 'CreatedToken' });
export const createTokenSchema = z.strictObject({
  name,
  service: slug,
  organization_id: id.optional(),
  user_id: id.optional(),
});
export const tokenQuerySchema = z.strictObject({
  ...pageQuery,
  organization_id: id.optional(),
  user_id: id.optional(),
  service: repeatable(slug),
  q: freeText.optional(),
  status: repeatable(z.enum(['active', 'expired', 'revoked'])),
  sort: z
    .enum([
      'created_at',
      '-created_at',
      'name',
      '-name',
      'last_used_at',
      '-last_used_at',
      'expires_at',
      '-expires_at',
    ])
    .default('-created_at'),
});
// One object and no union: an error speaks of the members that are there, never of those of the other alternative.
export const revokeSchema = z
  .strictObject({
    ids: z.array(id).min(1).max(policy.bulkRevokeMaximum).optional(),
    organization_id: id.optional(),
    user_id: id.optional(),
    service: slug.optional(),
    reason: freeText.optional(),
  })
  .superRefine((body, { addIssue }) => {
    const filter = (['organization_id', 'user_id', 'service'] as const).filter((member) => body[member]);
    if (!body.ids && filter.length === 0) {
      addIssue('needs ids, or at least one of organization_id, user_id and service');
    }
    if (!body.ids) return;
    for (const member of filter) {
      addIssue({ code: 'custom', path: [member], message: 'ids and a filter exclude each other' });
    }
  })
  .meta({ description: '`ids`, or at least one of `organization_id`, `user_id` and `service`; never both' });
export const revokedSchema = z
  .strictObject({ revoked: z.int(), not_found: z.array(id) })
  .meta({ id: 'Revoked' });

export const organizationSchema = z
  .strictObject({ id, name: z.string(), status, created_at: time })
  .meta({ id: 'Organization' });
export const createOrganizationSchema = z.strictObject({ name });
export const changeOrganizationSchema = z.strictObject({ name: name.optional(), status: status.optional() });

export const userSchema = z
  .strictObject({
    id,
    email: z.string(),
    name: z.string(),
    kind: z.enum(['person', 'service_account']),
    status,
    created_at: time,
  })
  .meta({ id: 'User' });
export const createUserSchema = z.strictObject({
  email,
  name,
  kind: z.enum(['person', 'service_account']).default('person'),
  password: password.optional(),
});
export const changeUserSchema = z.strictObject({
  name: name.optional(),
  email: email.optional(),
  password: password.optional(),
  status: status.optional(),
});
export const userQuerySchema = z.strictObject({ ...pageQuery, q: freeText.optional() });

export const memberQuerySchema = z.strictObject({
  ...pageQuery,
  q: freeText.optional(),
  user_id: repeatable(id),
});

export const role = z.enum(['member', 'admin']);
export const memberSchema = z
  .strictObject({
    user_id: id,
    email: z.string(),
    name: z.string(),
    kind: z.enum(['person', 'service_account']),
    status,
    role,
    created_at: time,
  })
  .meta({ id: 'Member' });
export const membershipSchema = z
  .strictObject({ organization_id: id, user_id: id, role })
  .meta({ id: 'Membership' });
export const putMemberSchema = z.strictObject({ role });

export const serviceSchema = z
  .strictObject({
    id: z.string(),
    name: z.string(),
    audience: z.string(),
    scopes: z.array(z.string()),
    status,
  })
  .meta({ id: 'Service' });
// RFC 6749 §3.3: a scope has at least one token, so an access token for the service could not have an empty one.
const scopes = z
  .array(scopeToken)
  .min(1)
  .max(50)
  .refine((list) => new Set(list).size === list.length, 'must not repeat a scope');
export const createServiceSchema = z.strictObject({ id: slug, name, audience: absoluteUri, scopes });
export const changeServiceSchema = z.strictObject({
  name: name.optional(),
  scopes: scopes.optional(),
  status: status.optional(),
});

const clientGrants = z.enum([
  'client_credentials',
  'authorization_code',
  'refresh_token',
  'urn:ietf:params:oauth:grant-type:token-exchange',
]);
const clientScope = z
  .string()
  .refine(
    (value) => value === '' || value.split(' ').every((part) => clientScopes.has(part)),
    'must be of openid, offline_access, admin, tokens:read, tokens:write and introspect',
  );
const clientScopes = new Set([
  'openid',
  'offline_access',
  'admin',
  'tokens:read',
  'tokens:write',
  'introspect',
]);
const redirectUri = absoluteUri.refine((value) => {
  // RFC 9700 §4.1: https, or http on loopback (RFC 8252 §7.3).
  const url = URL.canParse(value) ? new URL(value) : undefined;
  return (
    (url?.protocol === 'https:' && /^([a-z\d.-]+|\[[\da-f:.]+\])$/.test(url.hostname)) ||
    (url?.protocol === 'http:' && /^(localhost|127\.0\.0\.1|\[::1\])$/.test(url.hostname))
  );
}, 'must be https at the name of a host, or http on loopback');
const clientMembers = {
  name,
  grant_types: z.array(clientGrants).max(4),
  scope: clientScope.optional(),
  redirect_uris: z.array(redirectUri).max(20).optional(),
  service: slug.nullable().optional(),
};
const codeNeedsRedirect = (client: {
  grant_types?: string[] | undefined;
  redirect_uris?: string[] | undefined;
}) => !client.grant_types?.includes('authorization_code') || Boolean(client.redirect_uris?.length);
export const createClientSchema = z
  .strictObject(clientMembers)
  .refine(codeNeedsRedirect, { path: ['redirect_uris'], error: 'authorization_code needs redirect_uris' });
export const changeClientSchema = z.strictObject(clientMembers).partial();
export const clientSchema = z
  .strictObject({
    client_id: z.string(),
    name: z.string(),
    grant_types: z.array(z.string()),
    scope,
    redirect_uris: z.array(z.string()),
    service: z.string().nullable(),
    created_at: time,
  })
  .meta({ id: 'Client' });
export const clientWithSecretSchema = clientSchema
  .extend({ client_secret: z.string().meta({ description: 'shown this once' }) })
  .meta({ id: 'ClientWithSecret' });

export const meSchema = userSchema
  .extend({
    memberships: z.array(
      z.strictObject({
        organization: z.strictObject({ id, name: z.string() }),
        role,
        token_limit: z.int(),
        tokens_remaining: z.int(),
      }),
    ),
  })
  .meta({ id: 'Me' });

export const auditEventSchema = z
  .strictObject({
    id,
    at: time,
    action: z.string(),
    actor: z.strictObject({ type: z.enum(['user', 'client', 'token', 'system']), id: z.string() }),
    organization_id: id.nullable(),
    token_id: id.nullable(),
    target_id: z.string().nullable(),
    ip: z.string().nullable(),
    user_agent: z.string().nullable(),
    request_id: z.string().nullable().meta({ description: 'as in `X-Request-Id` and in the log' }),
    reason: z.string().nullable(),
    count: z.int().min(1).meta({
      description:
        'how many of its kind the event stands for, `at` being the last of them; 1 where they are not counted',
    }),
  })
  .meta({ id: 'AuditEvent' });
export const auditQuerySchema = z.strictObject({
  ...pageQuery,
  organization_id: id.optional(),
  actor_id: freeText.optional(),
  action: z
    .string()
    .regex(/^[a-z_]+\.[a-z_]+$/)
    .optional(),
  token_id: id.optional(),
  from: z.iso.datetime({ offset: true }).optional(),
  to: z.iso.datetime({ offset: true }).optional(),
});

export const signingKeySchema = z
  .strictObject({
    kid: z.string().meta({ description: 'RFC 7638 thumbprint' }),
    alg: z.string(),
    state: z.enum(['next', 'current', 'previous']),
    published_at: time,
    activates_at: time.meta({ description: 'its first signature' }),
    retires_at: time
      .nullable()
      .meta({ description: 'when it leaves the JWKS; null until its successor is known' }),
  })
  .meta({ id: 'SigningKey' });
export const rotateSchema = z
  .strictObject({
    activates_at: z.iso.datetime({ offset: true }).optional(),
    emergency: z.boolean().optional(),
    reason: freeText.optional(),
  })
  .refine((body) => !(body.emergency && body.activates_at), {
    path: ['activates_at'],
    error: 'an emergency rotation is immediate',
  });

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string().optional(),
    errors: z.array(z.strictObject({ pointer: z.string(), detail: z.string() })).optional(),
  })
  .meta({ id: 'Problem' });

const iso = (date: Date | null) => date?.toISOString() ?? null;

export function presentToken(token: PlatformToken, now: Date) {
  return {
    id: token.id,
    name: token.name,
    service: { id: token.serviceId, name: token.serviceName },
    organization_id: token.organizationId,
    user_id: token.userId,
    scope: token.scopes.join(' '),
    hint: token.hint,
    status: token.revokedAt ? 'revoked' : token.expiresAt <= now ? 'expired' : 'active',
    created_at: iso(token.createdAt),
    expires_at: iso(token.expiresAt),
    last_used_at: iso(token.lastUsedAt),
    last_used_ip: token.lastUsedIp,
    revoked_at: iso(token.revokedAt),
    revoked_by: token.revokedBy,
  };
}

export function presentOrganization({ id, name, status, createdAt }: Organization) {
  return { id, name, status, created_at: iso(createdAt) };
}

export function presentUser({ id, email, name, kind, status, createdAt }: User) {
  return { id, email, name, kind, status, created_at: iso(createdAt) };
}

export function presentMember({ userId, createdAt, ...member }: Member) {
  return { user_id: userId, ...member, created_at: iso(createdAt) };
}

export function presentService({ id, name, audience, scopes, status }: Service) {
  return { id, name, audience, scopes, status };
}

export function presentClient(client: Client) {
  return {
    client_id: client.id,
    name: client.name,
    grant_types: client.grantTypes,
    scope: client.scopes.join(' '),
    redirect_uris: client.redirectUris,
    service: client.serviceId,
    created_at: iso(client.createdAt),
  };
}

export function presentSigningKey(key: StoredSigningKey, state: string) {
  return {
    kid: key.kid,
    alg: key.alg,
    state,
    published_at: iso(key.publishedAt),
    activates_at: iso(key.activatesAt),
    retires_at: iso(key.retiresAt),
  };
}

export function presentAuditEvent(event: ListedEvent) {
  return {
    id: event.id,
    at: iso(event.at),
    action: event.action,
    actor: event.actor,
    organization_id: event.organizationId,
    token_id: event.tokenId,
    target_id: event.targetId,
    ip: event.ip,
    user_agent: event.userAgent,
    request_id: event.requestId,
    reason: event.reason,
    count: event.count,
  };
}
