import { createHash } from 'node:crypto';
import { type Adapter, type AdapterFactory, type AdapterPayload, errors } from 'oidc-provider';
import { policy } from '../../config/policy.ts';
import type { Sealer } from '../keys/sealing.ts';
import type { Artifacts } from '../storage/artifacts.ts';
import type { Clients } from '../storage/clients.ts';
import { toClientMetadata } from './clients.ts';

export interface AdapterDeps {
  readonly artifacts: Artifacts;
  readonly clients: Clients;
  readonly sealer: Sealer;
  readonly signingAlg: string;
  readonly clock: () => Date;
}

/** The provider's storage contract: clients from their table, everything else digested, sealed and swept. */
export function createAdapterFactory(deps: AdapterDeps): AdapterFactory {
  return (kind) => (kind === 'Client' ? createClientAdapter(deps) : createArtifactAdapter(kind, deps));
}

function createArtifactAdapter(kind: string, { artifacts, sealer, clock }: AdapterDeps): Adapter {
  const open = async (
    stored: Awaited<ReturnType<Artifacts['find']>>,
  ): Promise<AdapterPayload | undefined> => {
    if (!stored) return undefined;
    const payload = JSON.parse(await sealer.open(stored.payload, kind));
    return stored.consumedAt
      ? { ...payload, consumed: Math.floor(stored.consumedAt.getTime() / 1000) }
      : payload;
  };

  return {
    async upsert(id, payload, expiresIn = policy.sessionLifetime) {
      await artifacts.upsert({
        kind,
        // The id is the artifact's value, as good as a password: only its digest is stored.
        idDigest: digest(id),
        payload: await sealer.seal(JSON.stringify(payload), kind),
        uidDigest: payload.uid ? digest(payload.uid) : null,
        grantDigest: payload.grantId ? digest(payload.grantId) : null,
        expiresAt: new Date(clock().getTime() + expiresIn * 1000),
      });
    },
    find: async (id) => open(await artifacts.find(kind, digest(id), clock())),
    findByUid: async (uid) => open(await artifacts.findByUid(kind, digest(uid), clock())),
    findByUserCode: async () => undefined,
    async consume(id) {
      // The library checks, then consumes: of concurrent redemptions all but one must fail here.
      if (await artifacts.consume(kind, digest(id), clock())) return;
      // RFC 6749 §4.1.2: what the other one got is revoked.
      await artifacts.deleteWithGrant(kind, digest(id));
      throw new errors.InvalidGrant('already consumed');
    },
    destroy: (id) => artifacts.delete(kind, digest(id)),
    revokeByGrantId: (grantId) => artifacts.deleteByGrant(digest(grantId)),
  };
}

function createClientAdapter({ clients, signingAlg }: AdapterDeps): Adapter {
  const unsupported = () => Promise.reject(new Error('clients are managed by the admin API'));
  return {
    async find(id) {
      const client = await clients.find(id);
      return client && toClientMetadata(client, signingAlg);
    },
    findByUid: async () => undefined,
    findByUserCode: async () => undefined,
    upsert: unsupported,
    consume: unsupported,
    destroy: unsupported,
    revokeByGrantId: unsupported,
  };
}

/** Names a grant in an access token: the digest that it is stored under. */
export const grantReference = (grantId: string) => digest(grantId).toString('base64url');

/** What an artifact is stored under. */
export function digest(value: string): Buffer {
  return createHash('sha256').update(value).digest();
}
