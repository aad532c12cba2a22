import { createAuthorizedFetch } from './authorized-fetch.ts';
import { createKeeper } from './keeper.ts';
import { type FetchLike, readOptions, type TokenSourceOptions } from './options.ts';

export interface TokenSource {
  /**
   * An access token that holds now, exchanged at the first call and renewed ahead of its end.
   *
   * @throws {DeadTokenError} the platform token does not hold; it takes another one
   * @throws {ExchangeRefusedError} what was asked for is refused, such as a scope
   * @throws {TemporaryError} faults outlasted `maxWaitMs`
   * @throws {TypeError} the `platformToken` function gave no token
   * @throws the signal's reason; other callers go on waiting
   */
  getAccessToken(options?: { readonly signal?: AbortSignal | undefined }): Promise<string>;
  /** Gives up an access token that an API refused with 401. One that was replaced meanwhile is left alone. */
  invalidate(accessToken: string): void;
  /** `fetch` with the access token, for the `origins` of the options. Throws what `getAccessToken` throws, too. */
  readonly fetch: FetchLike;
  /** Nothing secret. */
  toJSON(): { readonly tokenEndpoint: string };
}

/**
 * Access tokens for a platform token. Every secret is in closures: nothing that prints or serializes the source finds one.
 *
 * @throws {TypeError} an option is wrong
 */
export function createTokenSource(options: TokenSourceOptions): TokenSource {
  const settings = readOptions(options);
  const keeper = createKeeper(settings);
  const { tokenEndpoint } = settings;
  return Object.freeze({
    getAccessToken: async ({ signal }: { readonly signal?: AbortSignal | undefined } = {}) =>
      (await keeper.get(signal)).accessToken,
    invalidate: (accessToken: string) => keeper.invalidate(accessToken),
    fetch: createAuthorizedFetch(settings, keeper),
    toJSON: () => ({ tokenEndpoint }),
  });
}
