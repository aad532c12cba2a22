import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { runCandidate } from './candidate.ts';

/** What HTTP alone costs: reads the request and answers with a constant about as long as a real answer. */
const answer = JSON.stringify({
  access_token: 'x'.repeat(620),
  issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
  token_type: 'Bearer',
  expires_in: 14_400,
  scope: 'bench:read bench:write',
});
const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(answer) };

await runCandidate(async () => {
  const server = createServer((request, response) => {
    request.resume().on('end', () => response.writeHead(200, headers).end(answer));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close: () => new Promise((resolve) => void server.close(() => resolve())),
  };
});
