/** What is sent to the candidates of `npm run bench`. */

export const clientCredentials = {
  id: 'bench',
  secret: 'a secret of this benchmark alone',
  scope: 'bench:read bench:write',
};

export function exchangeForm(token: string): URLSearchParams {
  return new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token: token,
  });
}

/** @param address where it comes from, as a trusted proxy would say */
export const exchangeRequest = (token: string, address?: string): Buffer =>
  tokenRequest(exchangeForm(token), address === undefined ? [] : [`X-Forwarded-For: ${address}`]);

/** RFC 6749 §2.3.1: both parts of the credentials form-encoded. */
export function clientCredentialsRequest(): Buffer {
  const { id, secret } = clientCredentials;
  const encode = (value: string) => encodeURIComponent(value).replaceAll('%20', '+');
  const credentials = Buffer.from(`${encode(id)}:${encode(secret)}`).toString('base64');
  return tokenRequest(new URLSearchParams({ grant_type: 'client_credentials' }), [
    `Authorization: Basic ${credentials}`,
  ]);
}

/** A whole HTTP request. */
function tokenRequest(form: URLSearchParams, fields: readonly string[] = []): Buffer {
  const body = form.toString();
  return Buffer.from(
    [
      'POST /oauth/token HTTP/1.1',
      'Host: issuer.example.com',
      'Content-Type: application/x-www-form-urlencoded',
      `Content-Length: ${Buffer.byteLength(body)}`,
      'User-Agent: bench',
      ...fields,
      '',
      body,
    ].join('\r\n'),
  );
}
