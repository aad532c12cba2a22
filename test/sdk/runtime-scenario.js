import { createTokenSource } from '@platform-tokens/client';
import { createVerifier } from '@platform-tokens/verifier';
import { requireAccessToken } from '@platform-tokens/verifier/fetch';
import given from './given.js';

/** What both kits are for, in whatever runtime this is run by: prints what came of it, as JSON. */
const { issuer, url, audience, platformToken, hostile, api, vectors } = given;
const outcomeOf = (work) =>
  work.then(
    () => 'accept',
    (error) => error.rule ?? error.name,
  );

const documents = { ...vectors.statusLists, [`${vectors.settings.issuer}/oauth/jwks`]: vectors.jwks };
const verdicts = {};
for (const { name, jwt, at } of vectors.vectors) {
  const verifier = createVerifier({
    issuer: vectors.settings.issuer,
    audience: vectors.settings.audience,
    requiredScopes: vectors.settings.required_scopes,
    fetch: async (asked) => new Response(documents[asked], { status: asked in documents ? 200 : 404 }),
    clock: () => at * 1000,
  });
  verdicts[name] = await outcomeOf(verifier.verify(jwt));
}

// Over the network from here: an exchange, and an API that verifies what came of it.
const source = createTokenSource({ issuer: url, platformToken, origins: [api] });
const accessToken = await source.getAccessToken();
const verifier = createVerifier({
  issuer,
  audience,
  allowHttp: true,
  fetch: (asked, init) => fetch(String(asked).replace(issuer, url), init),
});
const handler = requireAccessToken(verifier, (_request, claims) => Response.json(claims.scope));
const served = [];
for (const headers of [{}, { authorization: `Bearer ${accessToken}` }, { authorization: 'Bearer a.b.c' }]) {
  const answer = await handler(new Request('https://api.example.com/', { headers }));
  served.push([answer.status, answer.headers.get('www-authenticate')?.slice(0, 6), await answer.text()]);
}
const dead = createTokenSource({ issuer: url, platformToken: `${platformToken}x` });
const refused = await outcomeOf(dead.getAccessToken());
const redirected = await (await source.fetch(`${api}/redirect`)).json();
const retried = await (await source.fetch(`${api}/retry`, { method: 'POST', body: 'again' })).json();

const withstood = {};
for (const how of ['hangs', 'drips', 'endless', 'bomb', 'redirect', 'page']) {
  const asked = createVerifier({ issuer: `${hostile}/${how}`, audience, timeout: 500 });
  const exchanged = createTokenSource({
    issuer: `${hostile}/${how}`,
    platformToken,
    requestTimeoutMs: 500,
    maxWaitMs: 100,
  });
  withstood[how] = await Promise.all([
    outcomeOf(asked.verify(accessToken)),
    outcomeOf(exchanged.getAccessToken()),
  ]);
}

// biome-ignore lint/suspicious/noConsole: what it is for
console.log(
  JSON.stringify({ verdicts, served, refused, redirected, retried, withstood, endedAt: Date.now() }),
);
