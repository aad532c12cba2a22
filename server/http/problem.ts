import type { Context } from 'koa';

export interface ProblemDetails {
  readonly status: number;
  readonly title: string;
  readonly detail?: string | undefined;
  /** Last segment of the `type` URI; without it the type is `about:blank` (RFC 9457 §4.2.1). */
  readonly type?: string | undefined;
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[] | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** An answer that is an error, in RFC 9457's words. */
export class Problem extends Error {
  readonly details: ProblemDetails;
  constructor(details: ProblemDetails, options?: ErrorOptions) {
    super(details.title, options);
    this.name = 'Problem';
    this.details = details;
  }
}

export const notFound = () => new Problem({ status: 404, title: 'Not Found' });

export const methodNotAllowed = (methods: readonly string[]) =>
  new Problem({ status: 405, title: 'Method Not Allowed', headers: { Allow: methods.join(', ') } });

export function writeProblem(ctx: Context, issuer: string, details: ProblemDetails): void {
  const { status, title, detail, type, errors, headers } = details;
  ctx.status = status;
  if (headers) ctx.set(headers);
  ctx.set('Cache-Control', 'no-store');
  ctx.body = JSON.stringify({
    type: type ? `${issuer}/problems/${type}` : 'about:blank',
    title,
    status,
    ...(detail === undefined ? {} : { detail }),
    ...(errors === undefined ? {} : { errors }),
  });
  ctx.type = 'application/problem+json';
}
