import { authorizationOf } from './bearer.ts';
import { VerificationError } from './errors.ts';
import type { VerifyOptions } from './options.ts';
import type { Verifier } from './verifier.ts';

/** What is used of Koa's context. */
export interface KoaContext {
  readonly req: {
    readonly rawHeaders?: readonly string[];
    readonly headers: { readonly authorization?: string | undefined };
  };
  // biome-ignore lint/suspicious/noExplicitAny: as Koa has it
  readonly state: any;
  status: number;
  body: unknown;
  set(headers: Record<string, string>): void;
}

/** Koa middleware: lets requests with a good access token in, its claims in `ctx.state.user`, and answers the others. */
export function requireAccessToken(verifier: Verifier, options?: VerifyOptions) {
  return async (ctx: KoaContext, next: () => Promise<unknown>): Promise<void> => {
    try {
      ctx.state.user = await verifier.authenticate(authorizationOf(ctx.req), options);
    } catch (error) {
      if (!(error instanceof VerificationError)) throw error;
      ctx.set(error.headers);
      // In this order: a body that is there says 200, one that is not says 204.
      ctx.body = error.body ?? '';
      ctx.status = error.status;
      return;
    }
    await next();
  };
}
