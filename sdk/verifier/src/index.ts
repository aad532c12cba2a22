export type { AccessTokenClaims } from './access-token.ts';
export type { AuthorizationField } from './bearer.ts';
export { VerificationError, type VerificationErrorCode, type VerificationRule } from './errors.ts';
export type { Algorithm } from './keys.ts';
export { createVerifier, type Verifier, type VerifierOptions, type VerifyOptions } from './verifier.ts';
