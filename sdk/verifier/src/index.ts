export type { AccessTokenClaims } from './access-token.ts';
export type { AuthorizationField } from './bearer.ts';
export { VerificationError, type VerificationErrorCode, type VerificationRule } from './errors.ts';
export type { Algorithm } from './keys.ts';
export type { VerifierOptions, VerifyOptions } from './options.ts';
export { createVerifier, type Verifier } from './verifier.ts';
