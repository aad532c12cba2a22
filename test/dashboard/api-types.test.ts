import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { createHarness } from '../support/harness.ts';

it("types the dashboard's calls by the present OpenAPI document", async () => {
  const harness = await createHarness();
  try {
    const input = await (await fetch(`${harness.url}/admin/openapi.json`)).text();
    // From standard input to standard output. It lives there because it needs a TypeScript of its own.
    const generator = 'dashboard/node_modules/.bin/openapi-typescript';
    const types = execFileSync(generator, ['--alphabetize'], { input, encoding: 'utf8' });
    // `npm run api-types` writes it anew.
    await expect(types).toMatchFileSnapshot('../../dashboard/src/api/schema.d.ts');
  } finally {
    await harness.close();
  }
});
