import { connect } from 'node:net';
import { type Answer, Malformed, readAnswer } from './answers.ts';

/** A keep-alive connection that sends whole, valid requests, a few at a time. */
export interface Connection {
  readonly open: () => boolean;
  /**
   * @param methods of the requests, in order
   * @returns their answers; fewer than requests where the server said that it closes the connection
   */
  send(bytes: Buffer, methods: readonly string[]): Promise<Answer[]>;
  close(): void;
}

/** An answer must come within this; a bound against hangs, and no measure of speed. */
const patienceMs = 30_000;

export async function openConnection(port: number): Promise<Connection> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true, timeout: patienceMs });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  let open = true;
  let late = false;
  let received = Buffer.alloc(0);
  let wake = () => {};
  const end = () => {
    open = false;
    wake();
  };
  socket.on('data', (chunk: Buffer) => {
    received = received.length === 0 ? (chunk as Buffer<ArrayBuffer>) : Buffer.concat([received, chunk]);
    wake();
  });
  socket.on('timeout', () => {
    late = true;
    end();
  });
  for (const event of ['end', 'close', 'error']) socket.on(event, end);
  return {
    open: () => open,
    async send(bytes, methods) {
      socket.write(bytes);
      const answers: Answer[] = [];
      while (answers.length < methods.length) {
        const read = readAnswer(received, methods[answers.length] === 'HEAD');
        if (read) {
          answers.push(read.answer);
          received = read.rest as Buffer<ArrayBuffer>;
          if (!read.answer.last) continue;
          open = false;
          socket.destroy();
          break;
        }
        if (late)
          throw new Error(
            `no answer within ${patienceMs} ms, after ${answers.length} of ${methods.length}: ${received.toString('latin1', 0, 200)}`,
          );
        if (!open) break;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      return answers;
    },
    close: () => socket.destroy(),
  };
}

/** What became of bytes that may be anything. */
export interface Outcome {
  readonly answers: readonly Answer[];
  /** Who ended it: the server, or this side, because nothing more came. */
  readonly ended: 'server' | 'cut';
}

/** How long nothing may come after this side has said that it sends no more, before it goes. */
const goneMs = 1_000;

/**
 * Sends bytes on connections of their own, and reads what comes until the server closes them, or nothing more comes. How
 * long that is follows the server: on a busy machine an answer takes longer, and must not be cut off.
 */
export function createRawSender(port: number) {
  let typicalMs = 20;
  const quietMs = () => Math.min(2_000, 20 + 4 * typicalMs);

  /** @throws Malformed */
  return (bytes: Buffer, bodiless: boolean): Promise<Outcome> =>
    new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', noDelay: true });
      let received = Buffer.alloc(0);
      let started = 0;
      const answers: Answer[] = [];
      let timer: NodeJS.Timeout;
      const finish = (ended: Outcome['ended']) => {
        clearTimeout(timer);
        socket.destroy();
        resolve({ answers, ended });
      };
      const hangUp = () => {
        if (answers.length === 0) typicalMs *= 1.02;
        socket.end();
        timer = setTimeout(() => finish('cut'), goneMs);
      };
      const wait = (ms: number) => {
        clearTimeout(timer);
        timer = setTimeout(hangUp, ms);
      };
      socket.once('connect', () => {
        started = performance.now();
        socket.write(bytes);
        wait(quietMs());
      });
      socket.on('data', (chunk: Buffer) => {
        if (answers.length === 0) typicalMs += (performance.now() - started - typicalMs) / 20;
        received = Buffer.concat([received, chunk]);
        try {
          for (let read = readAnswer(received, bodiless); read; read = readAnswer(received, bodiless)) {
            answers.push(read.answer);
            received = read.rest as Buffer<ArrayBuffer>;
            if (read.answer.last) return finish('server');
          }
          wait(quietMs() / 4);
        } catch (error) {
          // Which of several answers was to HEAD, nobody can say.
          if (bodiless) return finish('server');
          clearTimeout(timer);
          socket.destroy();
          reject(error instanceof Malformed ? error : new Malformed(String(error)));
        }
      });
      socket.on('error', () => finish('server'));
      socket.on('close', () => finish('server'));
    });
}
