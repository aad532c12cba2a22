import type { AccessTokenClaims } from './access-token.ts';
import { VerificationError } from './errors.ts';
import type { VerifyOptions } from './options.ts';
import type { Verifier } from './verifier.ts';

/** The answer to a request that is not let in. */
export function toResponse({ status, headers, body }: VerificationError): Response {
  return body ? Response.json(body, { status, headers }) : new Response(null, { status, headers });
}

/**
 * A handler of Fetch requests (Deno, Bun, Cloudflare, Hono, Next.js …) behind an access token: it is given the claims after the
 * request, then whatever else the platform hands over.
 */
export function requireAccessToken<
  R extends { readonly headers: Headers } = Request,
  Rest extends unknown[] = [],
>(
  verifier: Verifier,
  handler: (request: R, claims: AccessTokenClaims, ...rest: Rest) => Response | Promise<Response>,
  options?: VerifyOptions,
) {
  return async (request: R, ...rest: Rest): Promise<Response> => {
    let claims: AccessTokenClaims;
    try {
      claims = await verifier.authenticate(request.headers.get('authorization'), options);
    } catch (error) {
      if (!(error instanceof VerificationError)) throw error;
      return toResponse(error);
    }
    return handler(request, claims, ...rest);
  };
}
