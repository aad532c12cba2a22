import { randomUUID } from 'node:crypto';
import { errors, type KoaContextWithOIDC, type Provider } from 'oidc-provider';
import { decideExchange, type ExchangeSubject, whyRefused } from '../../domain/exchange-policy.ts';
import { networkOf } from '../../domain/network.ts';
import { redact } from '../../domain/redaction.ts';
import { referenceOf, statusListUri } from '../../domain/status-list.ts';
import { clientAddress } from '../../http/client-address.ts';
import { requestEvent } from '../../http/request-event.ts';
import type { KeySet } from '../../keys/signing-keys.ts';
import type { CountedEvents } from '../../storage/counted-events.ts';
import type { PlatformTokens } from '../../storage/platform-tokens.ts';
import type { UsageRecorder } from '../../storage/usage.ts';
import type { FailureLimits } from '../failure-limits.ts';
import { tokenExchangeGrant } from '../metadata.ts';
import { signJwt } from '../sign-jwt.ts';
import type { CountUse } from '../use-limit.ts';

export interface TokenExchangeDeps {
  readonly issuer: string;
  readonly platformTokens: PlatformTokens;
  readonly usage: UsageRecorder;
  readonly failureLimits: FailureLimits;
  /** Counts a good exchange. @throws OAuthError where it is one too many */
  readonly countUse: CountUse;
  readonly countedEvents: CountedEvents;
  readonly subjectTokenTypes: readonly string[];
  readonly keySet: KeySet;
  /** In place of `signJwt`, with somebody looking on. */
  readonly sign?: typeof signJwt | undefined;
  readonly clock: () => Date;
}

const accessTokenType = 'urn:ietf:params:oauth:token-type:access_token';
const requestedTokenTypes = new Set([accessTokenType, 'urn:ietf:params:oauth:token-type:jwt']);
const parameters = [
  'subject_token',
  'subject_token_type',
  'requested_token_type',
  'scope',
  'resource',
  'audience',
  'actor_token',
  'actor_token_type',
] as const;
type Parameters = Partial<Record<(typeof parameters)[number], string>>;

// Several targets are refused by the policy as invalid_target, not by the library as duplicates.
const repeatable = ['resource', 'audience'];

/** RFC 8693: a platform token for a JWT access token. Parse, look up, decide, count, issue. */
export function registerTokenExchange(provider: Provider, deps: TokenExchangeDeps): void {
  provider.registerGrantType(
    tokenExchangeGrant,
    async (ctx) => {
      const params = parse(ctx.oidc.params as Parameters, deps.subjectTokenTypes);
      // Absent where it cannot be a platform token (failure-limits.ts).
      const { presented } = ctx.state;
      const subject = presented && (await deps.platformTokens.findForExchange(presented));
      const now = deps.clock();
      const { scope, resource, audience } = params;
      const decision = decideExchange(subject, { scope, resource, audience }, now);
      if (subject) ctx.state.serviceId = subject.serviceId;
      if (!subject || (!decision.granted && decision.refusal === 'invalid_subject_token')) {
        if (subject) recordRefusal(ctx, subject, now, deps);
        deps.failureLimits.subjectFailed(ctx);
        ctx.state.refusal = 'invalid_subject_token';
        throw invalidSubjectToken();
      }
      deps.failureLimits.subjectSucceeded(ctx);
      // Whatever comes of it: a good token with a scope that it lacks costs as much as an exchange.
      deps.countUse(ctx, subject.id);
      if (!decision.granted) {
        ctx.state.refusal = decision.refusal;
        throw refusals[decision.refusal]();
      }
      ctx.body = await issue(ctx, subject, decision, now, deps);
      record(ctx, subject, now, deps.usage);
    },
    parameters,
    repeatable,
  );
}

function parse(
  params: Parameters,
  subjectTokenTypes: readonly string[],
): Parameters & { subject_token: string } {
  // RFC 8693 §2.1. Delegation is not supported, and must not be mistaken for impersonation.
  if (params.actor_token !== undefined || params.actor_token_type !== undefined) {
    throw new errors.InvalidRequest('actor_token is not supported');
  }
  if (params.subject_token === undefined) throw new errors.InvalidRequest('subject_token is missing');
  if (params.subject_token_type !== undefined && !subjectTokenTypes.includes(params.subject_token_type)) {
    throw new errors.InvalidRequest('subject_token_type is not supported');
  }
  if (params.requested_token_type !== undefined && !requestedTokenTypes.has(params.requested_token_type)) {
    throw new errors.InvalidRequest('requested_token_type is not supported');
  }
  return params as Parameters & { subject_token: string };
}

// RFC 8693 §2.2.2: invalid_request, and one answer whatever is wrong with the token.
const invalidSubjectToken = () => new errors.InvalidRequest('subject_token is not valid');
const refusals = {
  invalid_subject_token: invalidSubjectToken,
  invalid_scope: () =>
    new errors.CustomOIDCProviderError('invalid_scope', 'scope exceeds what the token was made for'),
  invalid_target: () => new errors.InvalidTarget('the target is not the service that the token was made for'),
};

async function issue(
  ctx: KoaContextWithOIDC,
  subject: ExchangeSubject,
  decision: { readonly scope: string; readonly audience: string; readonly expiresIn: number },
  now: Date,
  { keySet, issuer, sign = signJwt }: TokenExchangeDeps,
) {
  const { client } = ctx.oidc;
  if (!client) throw new Error('the token endpoint ran without a client');
  const { scope, audience, expiresIn } = decision;
  const { list, idx } = referenceOf(subject.statusIndex);
  const iat = Math.floor(now.getTime() / 1000);
  // RFC 9068 §2.2
  const claims = {
    iss: issuer,
    sub: subject.userId,
    aud: audience,
    client_id: client.clientId,
    iat,
    exp: iat + expiresIn,
    jti: randomUUID(),
    ...(scope ? { scope } : undefined),
    org_id: subject.organizationId,
    token_id: subject.id,
    status: { status_list: { idx, uri: statusListUri(issuer, list) } },
  };
  // RFC 8693 §2.2.1
  return {
    access_token: await sign(keySet, 'at+jwt', claims),
    issued_token_type: accessTokenType,
    token_type: 'Bearer',
    expires_in: expiresIn,
    scope,
  };
}

function record(ctx: KoaContextWithOIDC, subject: ExchangeSubject, at: Date, usage: UsageRecorder): void {
  const userAgent = ctx.get('User-Agent');
  usage.record({
    at,
    organizationId: subject.organizationId,
    tokenId: subject.id,
    serviceId: subject.serviceId,
    ip: clientAddress(ctx),
    userAgent: userAgent ? redact(userAgent) : null,
    requestId: ctx.state.requestId ?? null,
  });
}

/** A token that is out of use and is presented all the same: somebody forgot it, or found it. */
function recordRefusal(
  ctx: KoaContextWithOIDC,
  subject: ExchangeSubject,
  at: Date,
  { countedEvents }: TokenExchangeDeps,
): void {
  const { id, organizationId } = subject;
  const reason = whyRefused(subject);
  countedEvents.record(`${id} ${reason} ${networkOf(clientAddress(ctx))}`, at, () =>
    requestEvent(ctx, {
      at,
      action: 'token.refused',
      actor: { type: 'token', id },
      organizationId,
      tokenId: id,
      reason,
    }),
  );
}
