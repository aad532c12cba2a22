import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { verifyClientSecret } from '../domain/client-secret.ts';
import { repeatsAuthorization } from '../http/authorization.ts';
import type { Client, Clients } from '../storage/clients.ts';
import { isBuiltIn } from './clients.ts';
import { decodeFormText, type Form, type SingleForm } from './form.ts';
import { invalidClient, invalidRequest } from './oauth-error.ts';

/** What a request says of its client. Without a secret it only names one. */
export interface Credentials {
  readonly id: string;
  readonly secret: string | undefined;
}

/** RFC 9110 §5.3: the header is no list, and Node keeps the first of several. */
export function refuseSecondAuthorization(request: IncomingMessage): void {
  if (repeatsAuthorization(request)) throw invalidRequest('only one Authorization header is allowed');
}

/**
 * The client's credentials (RFC 6749 §2.3), undefined where there are none.
 * @throws OAuthError for what cannot be right (§5.2): such a request never counts as one without a client
 */
export function readCredentials(
  headers: IncomingHttpHeaders,
  form: Readonly<Form> | SingleForm,
): Credentials | undefined {
  if (form.client_assertion !== undefined || form.client_assertion_type !== undefined) throw invalidClient();
  const id = form.client_id as string | undefined;
  const secret = form.client_secret as string | undefined;
  if (headers.authorization === undefined) {
    if (id !== undefined) return { id, secret };
    if (secret !== undefined) throw invalidClient();
    return undefined;
  }
  const basic = readBasic(headers.authorization);
  // RFC 6749 §2.3: no more than one method in a request, so one client.
  if (secret !== undefined || (id !== undefined && id !== basic.id)) {
    throw invalidRequest('only one way of client authentication is allowed');
  }
  return basic;
}

function readBasic(authorization: string): Credentials {
  const encoded = /^Basic +([A-Za-z0-9+/]+={0,2})$/i.exec(authorization)?.[1];
  const [, id, secret] = /^([^:]+):(.+)$/s.exec(Buffer.from(encoded ?? '', 'base64').toString()) ?? [];
  return { id: decodeHalf(id), secret: decodeHalf(secret) };
}

/** RFC 6749 §2.3.1: both halves of Basic credentials are form-encoded; appendix A.1, A.2: VSCHAR. */
function decodeHalf(text = ''): string {
  try {
    const decoded = decodeFormText(text);
    if (/^[\x20-\x7e]+$/.test(decoded)) return decoded;
  } catch {
    // Broken percent-encoding: refused like everything else that is no secret.
  }
  throw invalidClient();
}

/** The confidential client whose credentials these are. @throws OAuthError `invalid_client` */
export async function authenticateClient(
  clients: Clients,
  credentials: Credentials | undefined,
): Promise<Client> {
  if (credentials?.secret === undefined) throw invalidClient();
  const client = await clients.find(credentials.id);
  // Constant time, over digests. A public client has no secret that could be right.
  if (!client?.secretDigest || !verifyClientSecret(credentials.secret, client.secretDigest))
    throw invalidClient(client?.id);
  return client;
}

/**
 * The client of a request that may come without one (RFC 7009 §2.1): a confidential client by its credentials, a public
 * one by its name.
 * @throws OAuthError `invalid_client`
 */
export async function identifyClient(
  clients: Clients,
  credentials: Credentials | undefined,
): Promise<string | undefined> {
  if (!credentials || (credentials.secret === undefined && isBuiltIn(credentials.id))) return credentials?.id;
  if (credentials.secret !== undefined) return (await authenticateClient(clients, credentials)).id;
  const client = await clients.find(credentials.id);
  if (!client || client.secretDigest) throw invalidClient(client?.id);
  return client.id;
}
