import request from 'supertest';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { problemTypes } from '../../server/http/problem-types.ts';
import { createHarness, type Harness } from '../support/harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness({ ownOrigin: true });
});
afterAll(() => harness.close());

it.each(Object.entries(problemTypes))('%s has a page for people', async (name, { status, title, help }) => {
  const url = `${harness.url}/problems/${name}`;
  const page = await fetch(url);
  expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/plain; charset=utf-8']);
  const text = await page.text();
  expect(text.startsWith(`${title}\n\n${help}\n`)).toBe(true);
  expect(text).toContain(String(status));
  // fetch would ask for a fresh one.
  const again = await request(harness.url)
    .get(`/problems/${name}`)
    .set('If-None-Match', String(page.headers.get('etag')));
  expect(again.status).toBe(304);
});

it('is where the type of a problem leads', async () => {
  const refused = await fetch(`${harness.url}/admin/tokens`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${await harness.build.machineJwt()}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify({ name: 'n', service: 'x', organization_id: uuidv7(), user_id: uuidv7() }),
  });
  const { type, title } = (await refused.json()) as { type: string; title: string };
  expect([refused.status, title]).toEqual([422, 'Not a member of the organization']);
  expect(await (await fetch(type)).text()).toMatch(/^Not a member of the organization\n/);
});

it.each(['nothing', '__proto__', 'constructor', 'Token-limit-reached', 'token-limit-reached/', ''])(
  'there is none of %j',
  async (name) => {
    expect((await fetch(`${harness.url}/problems/${name}`)).status).toBe(404);
  },
);
