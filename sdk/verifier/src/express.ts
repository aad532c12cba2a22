import type { AccessTokenClaims } from './access-token.ts';
import { authorizationOf } from './bearer.ts';
import { VerificationError } from './errors.ts';
import type { VerifyOptions } from './options.ts';
import type { Verifier } from './verifier.ts';

declare global {
  // Express reads its request's members from here.
  namespace Express {
    interface Request {
      /** Claims of the access token, behind `requireAccessToken`. */
      auth?: AccessTokenClaims;
    }
  }
}

/** What is used of Express's request and answer. */
export interface ExpressRequest {
  readonly rawHeaders?: readonly string[];
  readonly headers: { readonly authorization?: string | undefined };
  auth?: AccessTokenClaims;
}
export interface ExpressResponse {
  status(code: number): this;
  set(headers: Record<string, string>): this;
  json(body: unknown): unknown;
  end(): unknown;
}

/** Express middleware: lets requests with a good access token in, its claims in `req.auth`, and answers the others. */
export function requireAccessToken(verifier: Verifier, options?: VerifyOptions) {
  return async (
    req: ExpressRequest,
    res: ExpressResponse,
    next: (error?: unknown) => void,
  ): Promise<void> => {
    try {
      req.auth = await verifier.authenticate(authorizationOf(req), options);
    } catch (error) {
      if (!(error instanceof VerificationError)) return next(error);
      res.status(error.status).set(error.headers);
      if (error.body) res.json(error.body);
      else res.end();
      return;
    }
    next();
  };
}
