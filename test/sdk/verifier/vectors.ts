import { readFileSync } from 'node:fs';
import type { JSONWebKeySet } from 'jose';

/** What `sdk/vectors/README.md` describes, as another implementation would read it. */
export interface Vector {
  readonly name: string;
  readonly rule: string;
  readonly jwt: string;
  readonly expect: 'accept' | { readonly error: string };
  /** Seconds since the epoch. */
  readonly at: number;
}

const folder = new URL('../../../sdk/vectors/', import.meta.url);
const read = <T>(name: string): T => JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as T;

export const vectors = read<Vector[]>('vectors.json');
export const jwks = read<JSONWebKeySet>('jwks.json');
export const statusLists = read<Record<string, string>>('status-list.json');
export const settings = read<{
  issuer: string;
  audience: string;
  required_scopes: string[];
  algorithms: string[];
  leeway: number;
}>('verifier.json');

/** The issuer of the vectors. `asked` are the paths that it was asked for. */
export function createVectorIssuer() {
  const asked: string[] = [];
  const answer: typeof fetch = async (input) => {
    const url = String(input);
    asked.push(url);
    if (url === `${settings.issuer}/oauth/jwks`) return Response.json(jwks);
    const list = statusLists[url];
    return list === undefined ? new Response(null, { status: 404 }) : new Response(list);
  };
  return { fetch: answer, asked };
}
