import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { listenTo } from '../../server/storage/notifications.ts';

// A database that is stopped, not gone: it takes connections, and answers nothing.
const sockets = new Set<Socket>();
const silent = createServer((socket) => {
  sockets.add(socket.on('error', () => {}));
});
let url: string;
beforeEach(async () => {
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  url = `postgres://nobody@127.0.0.1:${(silent.address() as AddressInfo).port}/none`;
});
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  silent.close();
});

it('a listener closes though the database does not answer', async () => {
  const listener = listenTo({ connectionString: url, channel: 'signing_keys' }, () => {});
  await once(silent, 'connection');
  const before = Date.now();
  await listener.close();
  expect(Date.now() - before).toBeLessThan(3_000);
});

it('a listener whose connection is never answered tries another', { timeout: 20_000 }, async () => {
  const listener = listenTo({ connectionString: url, channel: 'signing_keys' }, () => {});
  await once(silent, 'connection');
  await once(silent, 'connection');
  await listener.close();
});
