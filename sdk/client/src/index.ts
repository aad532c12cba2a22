export type { Clock } from './clock.ts';
export { DeadTokenError, ExchangeRefusedError, PlatformTokenError, TemporaryError } from './errors.ts';
export type { FetchLike, TokenSourceOptions } from './options.ts';
export { createTokenSource, type TokenSource } from './token-source.ts';
