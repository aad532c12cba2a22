import type { AccessTokenClaims } from './access-token.ts';
import { authorizationOf } from './bearer.ts';
import { VerificationError } from './errors.ts';
import type { VerifyOptions } from './options.ts';
import type { Verifier } from './verifier.ts';

/** What is used of Fastify's request and reply. */
export interface FastifyRequest {
  readonly raw: {
    readonly rawHeaders?: readonly string[];
    readonly headers: { readonly authorization?: string | undefined };
  };
}
export interface FastifyReply {
  code(status: number): this;
  headers(headers: Record<string, string>): this;
  send(body?: unknown): this;
}

/**
 * Fastify hook, for `onRequest` of an application or a route: lets requests with a good access token in, its claims in
 * `request.user`, and answers the others.
 */
export function requireAccessToken(verifier: Verifier, options?: VerifyOptions) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    try {
      const claims = await verifier.authenticate(authorizationOf(request.raw), options);
      (request as FastifyRequest & { user?: AccessTokenClaims }).user = claims;
      return undefined;
    } catch (error) {
      if (!(error instanceof VerificationError)) throw error;
      return reply.code(error.status).headers(error.headers).send(error.body);
    }
  };
}

/** The claims that the hook has left on a request, with their type. @throws {TypeError} where it did not run */
export function claimsOf(request: object): AccessTokenClaims {
  const { user } = request as { user?: AccessTokenClaims };
  if (!user) throw new TypeError('no access token was verified');
  return user;
}
