import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export interface Address {
  readonly hostname: string;
  readonly port: string;
}

export type Door = Awaited<ReturnType<typeof createDoor>>;

/** A way to the database that can be shut, stalled, slowed and led elsewhere, and that loses answers. */
export async function createDoor(target: Address) {
  const pairs = new Set<readonly [Socket, Socket]>();
  let to = target;
  let stalled = false;
  let delayMs = 0;
  let lost: { readonly sent: boolean; readonly shuts: boolean; times: number } | undefined;

  const lose = (incoming: Socket) => {
    incoming.destroy();
    if (lost?.shuts) void shut();
  };
  const forward = (incoming: Socket) => {
    const outgoing = connect(Number(to.port), to.hostname);
    const pair = [incoming, outgoing] as const;
    pairs.add(pair);
    for (const socket of pair) {
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.on('close', () => {
        pairs.delete(pair);
        incoming.destroy();
        outgoing.destroy();
      });
    }
    let losing = false;
    const pass = (chunk: Buffer, socket: Socket) => {
      if (delayMs > 0) setTimeout(() => socket.write(chunk), delayMs);
      else socket.write(chunk);
    };
    incoming.on('data', (chunk: Buffer) => {
      if (lost && lost.times > 0 && chunk.includes('COMMIT')) {
        lost.times -= 1;
        if (!lost.sent) {
          lose(incoming);
          return;
        }
        losing = true;
      }
      pass(chunk, outgoing);
    });
    outgoing.on('data', (chunk: Buffer) => {
      // It has been done: what is lost is the word of it.
      if (losing) lose(incoming);
      else pass(chunk, incoming);
    });
    if (stalled) for (const socket of pair) socket.pause();
  };

  let server: Server;
  const listen = async (port: number) => {
    server = createServer(forward);
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    return (server.address() as AddressInfo).port;
  };
  const port = await listen(0);
  const sockets = () => [...pairs].flat();
  async function shut(): Promise<void> {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets()) socket.destroy();
    await closed;
  }
  return {
    port,
    /** The same database, by way of here. */
    urlOf(databaseUrl: string): string {
      const url = new URL(databaseUrl);
      url.hostname = '127.0.0.1';
      url.port = String(port);
      return url.href;
    },
    open: () => listen(port),
    /** Takes no connection any more, and cuts those that there are. */
    shut,
    /** Connections stay and new ones are taken, but nothing passes: a database that is stopped, not gone. */
    stall() {
      stalled = true;
      for (const socket of sockets()) socket.pause();
    },
    release() {
      stalled = false;
      for (const socket of sockets()) socket.resume();
    },
    /** Each way. */
    delay(ms: number) {
      delayMs = ms;
    },
    /** From now on; connections that there are go on to where they lead. */
    leadTo(other: Address) {
      to = other;
    },
    /** Connections that there are lead nowhere from now on, and nobody is told; new ones are as they should be. */
    strand() {
      for (const [incoming, outgoing] of pairs) {
        incoming.removeAllListeners('data').on('data', () => {});
        outgoing.removeAllListeners('data').on('data', () => {});
      }
    },
    cut() {
      for (const socket of sockets()) socket.destroy();
    },
    /** The next COMMITs: with `sent` they arrive and their answer does not, else they get lost themselves. Then it may shut. */
    loseCommits(times: number, { sent, shuts = false }: { sent: boolean; shuts?: boolean }) {
      lost = { sent, shuts, times };
    },
    /** Whether there are some yet to be lost. */
    losing: () => (lost?.times ?? 0) > 0,
  };
}
