import { createPublicKey, type KeyObject } from 'node:crypto';
import type { JWK } from 'jose';
import { ExternalSigningKey } from 'oidc-provider';
import type { SigningAlg } from '../../config/env.ts';
import { createSigner, type Signer } from '../keys/signer.ts';

/**
 * One of our keys as the library takes keys that it does not hold itself. The library would sign through WebCrypto,
 * whose every signature takes a thread and several turns of the event loop. See docs/decisions/0006.
 */
export class SigningKey extends ExternalSigningKey {
  readonly #jwk: JWK;
  readonly #publicKey: KeyObject;
  readonly #signer: Signer;

  constructor(privateJwk: JWK, alg: SigningAlg) {
    super();
    this.#jwk = privateJwk;
    this.#publicKey = createPublicKey({ key: privateJwk as never, format: 'jwk' });
    this.#signer = createSigner(privateJwk, alg);
  }

  override get kid(): string | undefined {
    return this.#jwk.kid;
  }

  override get alg(): string | undefined {
    return this.#jwk.alg;
  }

  override keyObject(): KeyObject {
    return this.#publicKey;
  }

  override sign(data: Uint8Array): Promise<Uint8Array> | Uint8Array {
    return this.#signer(data);
  }
}
