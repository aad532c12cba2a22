import { afterAll, beforeAll, expect, it } from 'vitest';
import { createHarness, exchangeGrant, type Harness } from '../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
});
afterAll(() => harness.close());

it.each(['/oauth/token/', '/OAUTH/TOKEN', '/oauth/Token', '/oauth//token'])(
  'answers no other spelling of the token endpoint: %s',
  async (path) => {
    const { token } = await harness.build.platformToken();
    const body = new URLSearchParams({
      grant_type: exchangeGrant,
      subject_token: token,
      client_id: 'platform-tokens',
    });
    const response = await fetch(harness.url + path, { method: 'POST', body });
    expect(response.status).toBe(404);
  },
);
