import { once } from 'node:events';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import Koa, { type Context } from 'koa';
import Provider from 'oidc-provider';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { providerMiddleware } from '../../server/oidc/provider.ts';

/** The library behind our middleware, and the contexts of the requests that went through it. */
const contexts: Context[] = [];
const app = new Koa({ silent: true } as never);
const provider = new Provider('https://auth.example.com', {
  routes: { jwks: '/oauth/jwks' },
  cookies: { keys: ['a key of this test'] },
});
let enter = () => {};
let wait = Promise.resolve();
app.use(async (ctx, next) => {
  contexts.push(ctx);
  await next();
  enter();
  await wait;
});
app.use(providerMiddleware(() => provider));
const server = createServer(app.callback());

beforeAll(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterAll(() => void server.close());

const url = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}/oauth/jwks`;

describe('the context of a request to the library', () => {
  it('is empty once the request is answered', async () => {
    expect((await fetch(url())).status).toBe(200);
    const ctx = contexts.at(-1) as Context & { oidc: object };
    await expect.poll(() => ctx.req).toBeUndefined();
    for (const object of [ctx, ctx.oidc]) {
      expect(Object.keys(object).length).toBeGreaterThan(5);
      expect(Object.values(object).filter((value) => value !== undefined)).toEqual([]);
    }
  });

  it('stays while the request is under way, though its client has gone', async () => {
    const entered = new Promise<void>((resolve) => {
      enter = resolve;
    });
    let leave = () => {};
    wait = new Promise((resolve) => {
      leave = resolve;
    });
    const request = get(url(), { agent: false }).on('error', () => {});
    await entered;
    const ctx = contexts.at(-1) as Context;
    const { res } = ctx;
    const closed = once(res, 'close');
    request.destroy();
    await closed;
    await new Promise(setImmediate);
    expect(ctx.res).toBe(res);
    expect(ctx.status).toBe(200);
    leave();
  });
});
