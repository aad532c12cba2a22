import { z } from 'zod';
import { scheduleAt } from '../domain/key-schedule.ts';
import type { StoredSigningKey } from '../storage/signing-keys.ts';
import { auditEvent } from './audit.ts';
import { answerPage, readPageRequest } from './cursor.ts';
import type { AdminDeps } from './deps.ts';
import { type AnyRoute, defineRoute } from './route.ts';
import { pageOf, pageQuery, presentSigningKey, rotateSchema, signingKeySchema } from './schemas.ts';

export function signingKeyRoutes({ signingKeys, keyRing, auditEvents, clock }: AdminDeps): AnyRoute[] {
  /** A key's state depends on all of them. */
  async function states(): Promise<Map<string, string>> {
    const { published } = scheduleAt(await signingKeys.list(), clock());
    return new Map(published.map(({ kid, state }) => [kid, state]));
  }

  return [
    defineRoute({
      method: 'get',
      path: '/signing-keys',
      operationId: 'listSigningKeys',
      summary: 'List the published signing keys, never their private halves; the latest to sign first',
      access: 'machine',
      query: z.strictObject(pageQuery),
      response: pageOf(signingKeySchema, 'A page of signing keys'),
      async handle({ query }) {
        const request = readPageRequest(query, 'signing-keys', { value: 'time', id: 'text' });
        const page = await signingKeys.listAlive(clock(), request);
        const stateOf = await states();
        const present = (key: StoredSigningKey) => presentSigningKey(key, stateOf.get(key.kid) ?? 'previous');
        return answerPage(page, 'signing-keys', present);
      },
    }),

    defineRoute({
      method: 'post',
      path: '/signing-keys/rotate',
      operationId: 'rotateSigningKeys',
      summary:
        'Publish the next signing key, which takes over when every verifier can know it. With `emergency` it signs at once and all others are removed: every access token that is out stops being valid, and verifiers that have not read the JWKS since refuse new ones for up to its max-age',
      access: 'machine',
      body: rotateSchema,
      optionalBody: true,
      response: {
        status: 201,
        description: 'The next key; with `emergency`, the current one',
        schema: signingKeySchema,
      },
      errors: [409],
      async handle(request) {
        const { activates_at: activatesAt, emergency, reason } = request.body;
        const key = await keyRing.rotate({
          activatesAt: activatesAt === undefined ? undefined : new Date(activatesAt),
          emergency,
          record: (created, transaction) =>
            auditEvents.insert(
              [
                auditEvent(request, emergency ? 'signing_key.replaced' : 'signing_key.rotated', clock(), {
                  targetId: created.kid,
                  reason: reason ?? null,
                }),
              ],
              transaction,
            ),
        });
        return { body: presentSigningKey(key, emergency ? 'current' : 'next') };
      },
    }),
  ];
}
