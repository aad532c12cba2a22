import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { policy } from '../config/policy.ts';
import { type Listener, openListener } from '../server/listener.ts';

/** Raw sockets against the listener, with its limits shortened. */
const limits = {
  ...policy.connections,
  headersMs: 500,
  requestMs: 1_500,
  idleInRequestMs: 1_000,
  idleMs: 1_000,
  checkMs: 100,
  maximum: 20,
};
let listener: Listener;
const sockets: Socket[] = [];
beforeEach(async () => {
  listener = await openListener({ host: '127.0.0.1', port: 0, issuer: 'http://issuer.test' }, limits);
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await listener.drain();
});

async function open() {
  const socket = connect(listener.port, '127.0.0.1');
  sockets.push(socket);
  socket.setEncoding('latin1');
  socket.on('error', () => {});
  let received = '';
  socket.on('data', (chunk: string) => {
    received += chunk;
  });
  const closed = once(socket, 'close');
  await once(socket, 'connect');
  return { socket, closed, received: () => received };
}

/** As the clients do that mean harm: a byte now and then, for ever. */
function trickle(socket: Socket, bytes: string, everyMs = 50): void {
  let next = 0;
  const timer = setInterval(() => socket.write(bytes[next++ % bytes.length] as string), everyMs);
  socket.once('close', () => clearInterval(timer));
}

const guard = { timeout: 15_000 };

it('cuts a client that says nothing', guard, async () => {
  const { closed } = await open();
  await closed;
});

it('cuts a client whose headers never end, however steadily they come', guard, async () => {
  const { socket, closed, received } = await open();
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n');
  trickle(socket, 'a: b\r\n');
  await closed;
  expect(received()).toMatch(/^HTTP\/1\.1 408 /);
});

it('cuts a client whose body never ends, and answers in between nobody else later', guard, async () => {
  listener.handle((request) => void request.resume());
  const { socket, closed, received } = await open();
  socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n');
  trickle(socket, 'x');
  await closed;
  expect(received()).toMatch(/^HTTP\/1\.1 408 /);
});

it('cuts a client that does not read what it asked for', guard, async () => {
  const answered = Promise.withResolvers<void>();
  listener.handle((_request, response) => {
    response.on('close', answered.resolve);
    // More than the kernel takes over.
    response.end(Buffer.alloc(32 << 20));
  });
  const { socket } = await open();
  socket.pause();
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  await answered.promise;
});

it('hands over no more than some requests of those that were sent ahead', guard, async () => {
  let handled = 0;
  listener.handle(() => {
    handled += 1;
  });
  const { socket, closed } = await open();
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(1_000));
  await closed;
  expect(handled).toBe(1 + limits.pipelined);
});

it.each([
  'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
  'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n',
])('lets go of all whose connection is cut, whatever comes behind them: %j', guard, async (last) => {
  for (const count of [3, 1 + limits.pipelined + 1]) {
    let handled = 0;
    let closed = 0;
    listener.handle((_request, response) => {
      handled += 1;
      response.once('close', () => {
        closed += 1;
      });
    });
    const client = await open();
    client.socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(count) + last);
    await expect.poll(() => handled).toBeGreaterThanOrEqual(3);
    client.socket.destroy();
    await expect.poll(() => closed).toBe(handled);
  }
});

it('answers some that were sent ahead, in their order, again and again', guard, async () => {
  let handled = 0;
  listener.handle((_request, response) => {
    const answer = `<${++handled}>`;
    setTimeout(() => response.end(answer), handled % 2 === 0 ? 0 : 20);
  });
  const { socket, received } = await open();
  for (let round = 1; round <= 5; round += 1) {
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(limits.pipelined));
    await expect.poll(() => received().match(/<\d+>/g)?.length).toBe(round * limits.pipelined);
  }
  expect(received().match(/(?<=<)\d+(?=>)/g)).toEqual(
    Array.from({ length: 5 * limits.pipelined }, (_, index) => String(index + 1)),
  );
});

it('keeps a connection between requests, and closes it after a time', guard, async () => {
  listener.handle((_request, response) => void response.end('ok'));
  const { socket, closed, received } = await open();
  for (let count = 1; count <= 3; count += 1) {
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await expect.poll(() => received().match(/HTTP\/1\.1 200/g)?.length).toBe(count);
  }
  await closed;
});

it('takes so many connections and no more, and others when those are gone', guard, async () => {
  listener.handle((_request, response) => void response.end('ok'));
  const many = await Promise.all(Array.from({ length: limits.maximum }, open));
  const beyond = await open();
  await beyond.closed;
  for (const { socket } of many) socket.destroy();
  await Promise.all(many.map(({ closed }) => closed));
  const { socket, received } = await open();
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  await expect.poll(received).toMatch(/^HTTP\/1\.1 200 /);
});

it('refuses headers that are too large, and overlooks none of many', guard, async () => {
  let last: unknown;
  listener.handle((request, response) => {
    last = request.headers.authorization;
    response.end('ok');
  });
  const large = await open();
  large.socket.write(`GET / HTTP/1.1\r\nHost: x\r\nA: ${'a'.repeat(20_000)}\r\n\r\n`);
  await large.closed;
  expect(large.received()).toMatch(/^HTTP\/1\.1 431 /);
  const many = await open();
  many.socket.write(
    `GET / HTTP/1.1\r\nHost: x\r\n${'a:\r\n'.repeat(2_500)}Authorization: Bearer x\r\nConnection: close\r\n\r\n`,
  );
  await many.closed;
  expect(many.received()).toMatch(/^HTTP\/1\.1 200 /);
  expect(last).toBe('Bearer x');
});

it.runIf(process.platform === 'linux')(
  'lets many in at each turn of the event loop, however long that is: who is new does not wait for all who are there',
  guard,
  async () => {
    const count = 64;
    const clients = spawn(process.execPath, [
      '-e',
      `const net = require('node:net');
       for (let n = 0; n < ${count}; n += 1) net.connect(${listener.port}, '127.0.0.1').on('error', () => {});
       setTimeout(() => {}, 60_000);`,
    ]);
    const taken: number[] = [];
    try {
      while (listener.connections() < limits.maximum) {
        const before = listener.connections();
        const begin = performance.now();
        while (performance.now() - begin < 20);
        await setImmediate();
        taken.push(listener.connections() - before);
      }
    } finally {
      clients.kill();
    }
    expect(Math.max(...taken)).toBeGreaterThan(2);
  },
);

it('finds out that the port is taken, by whoever does not share it and by its like', guard, async () => {
  const options = { host: '127.0.0.1', port: listener.port, issuer: 'http://issuer.test' };
  await expect(openListener(options, limits)).rejects.toThrow('the port is taken');
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as AddressInfo;
  await expect(openListener({ ...options, port }, limits)).rejects.toThrow('the port is taken');
  other.close();
});
