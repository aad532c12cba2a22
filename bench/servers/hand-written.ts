import { createHash, generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parse } from 'node:querystring';
import pg from 'pg';
import { runCandidate } from './candidate.ts';

/**
 * The least code that still does the job: parse the form, one prepared SELECT, one ES256 signature, one JSON answer.
 * No logging, no audit events, no last-used stamps, no request ids, no security headers, no client authentication.
 */
const { DATABASE_URL, POOL_SIZE, ISSUER } = process.env;
const lifetime = 14_400;
const listSize = 131_072;
const kid = 'hand-written';
const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwks = JSON.stringify({
  keys: [{ ...publicKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' }],
});
const protectedHeader = encode({ alg: 'ES256', typ: 'at+jwt', kid });
const pool = new pg.Pool({ connectionString: String(DATABASE_URL), max: Number(POOL_SIZE) });

// The statement of server/storage/platform-tokens.ts: the same question, so that the database costs both the same.
const lookup = {
  name: 'platform-token-by-digest',
  text: `SELECT t.id, t.organization_id, t.user_id, t.service_id, s.audience, t.scopes, t.status_index, t.expires_at,
      t.revoked_at,
      (u.status = 'active' AND o.status = 'active' AND s.status = 'active' AND m.user_id IS NOT NULL) AS active
    FROM platform_tokens t
    JOIN users u ON u.id = t.user_id
    JOIN organizations o ON o.id = t.organization_id
    JOIN services s ON s.id = t.service_id
    LEFT JOIN memberships m ON m.organization_id = t.organization_id AND m.user_id = t.user_id
    WHERE t.digest = $1`,
};

function handle(request: IncomingMessage, response: ServerResponse): void {
  if (request.method === 'GET') {
    answer(response, 200, jwks);
    return;
  }
  let body = '';
  request.setEncoding('utf8');
  request.on('data', (chunk: string) => {
    body += chunk;
  });
  request.on('end', () => {
    exchange(String(parse(body).subject_token)).then(
      (text) => answer(response, text ? 200 : 400, text ?? '{"error":"invalid_request"}'),
      () => answer(response, 500, '{"error":"server_error"}'),
    );
  });
}

async function exchange(token: string): Promise<string | undefined> {
  const digest = createHash('sha256').update(token).digest();
  const { rows } = await pool.query({ ...lookup, values: [digest] });
  const row = rows[0];
  if (!row?.active || row.revoked_at || row.expires_at <= new Date()) return undefined;
  const iat = Math.floor(Date.now() / 1000);
  const scope = row.scopes.join(' ');
  const index = Number(row.status_index);
  const payload = encode({
    jti: randomUUID(),
    sub: row.user_id,
    iat,
    exp: iat + lifetime,
    scope,
    client_id: 'platform-tokens',
    iss: ISSUER,
    aud: row.audience,
    org_id: row.organization_id,
    token_id: row.id,
    status: {
      status_list: {
        idx: index % listSize,
        uri: `${ISSUER}/oauth/status-lists/${Math.floor(index / listSize)}`,
      },
    },
  });
  const input = `${protectedHeader}.${payload}`;
  const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
  return JSON.stringify({
    access_token: `${input}.${signature.toString('base64url')}`,
    issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    token_type: 'Bearer',
    expires_in: lifetime,
    scope,
  });
}

function answer(response: ServerResponse, status: number, body: string): void {
  response
    .writeHead(status, {
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(body),
      'Cache-Control': 'no-store',
    })
    .end(body);
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

await runCandidate(async () => {
  const server = createServer(handle);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      await new Promise((resolve) => void server.close(resolve));
      await pool.end();
    },
  };
});
