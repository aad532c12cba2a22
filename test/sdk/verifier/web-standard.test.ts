import { createRequire } from 'node:module';
import { rolldown } from 'rolldown';
import { expect, it } from 'vitest';
import { jwks, settings, statusLists, vectors } from './vectors.ts';

// Its types are those of a browser, and disagree with Node's.
const { EdgeVM } = createRequire(import.meta.url)('@edge-runtime/vm') as {
  EdgeVM: new (options: { extend: (context: object) => object }) => { evaluate(code: string): unknown };
};

it('gives the same verdicts where there is nothing but web standards', async () => {
  const bundle = await rolldown({ input: 'sdk/verifier/src/index.ts', platform: 'neutral' });
  const { output } = await bundle.generate({ format: 'iife', name: 'kit' });
  const code = output[0].code;
  expect(code).not.toMatch(/node:|\brequire\(|\bprocess\b|\bBuffer\b/);
  const runtime = new EdgeVM({
    // Web-standard too, and left out of this one.
    extend: (context) => Object.assign(context, { DecompressionStream }),
  });
  runtime.evaluate(code);
  runtime.evaluate(`globalThis.input = ${JSON.stringify({ jwks, settings, statusLists, vectors })}`);
  const verdicts = (await runtime.evaluate(`(async () => {
    const { jwks, settings, statusLists, vectors } = input;
    const answer = async (url) =>
      String(url).endsWith('/oauth/jwks')
        ? new Response(JSON.stringify(jwks))
        : String(url) in statusLists
          ? new Response(statusLists[url])
          : new Response(null, { status: 404 });
    const verdicts = {};
    for (const { name, jwt, at } of vectors) {
      const verifier = kit.createVerifier({
        issuer: settings.issuer,
        audience: settings.audience,
        requiredScopes: settings.required_scopes,
        fetch: answer,
        clock: () => at * 1000,
      });
      verdicts[name] = await verifier.verify(jwt).then(() => 'accept', (error) => error.rule ?? String(error));
    }
    return verdicts;
  })()`)) as Record<string, string>;
  expect(verdicts).toEqual(Object.fromEntries(vectors.map(({ name, rule }) => [name, rule])));
});
