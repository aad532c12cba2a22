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
        if (late) throw new Error(`no answer within ${patienceMs} ms`);
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

/** How long nothing may come before this side says that it has no more to send, and then before it goes. */
const quietMs = 60;
const goneMs = 1_000;

/**
 * Sends bytes on a connection of their own, and reads what comes until the server closes it, or nothing more comes.
 * @throws Malformed
 */
export function sendRaw(port: number, bytes: Buffer, bodiless: boolean): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    let received = Buffer.alloc(0);
    const answers: Answer[] = [];
    let timer: NodeJS.Timeout;
    const finish = (ended: Outcome['ended']) => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ answers, ended });
    };
    const hangUp = () => {
      socket.end();
      timer = setTimeout(() => finish('cut'), goneMs);
    };
    const wait = () => {
      clearTimeout(timer);
      timer = setTimeout(hangUp, answers.length > 0 ? quietMs / 4 : quietMs);
    };
    socket.once('connect', () => {
      socket.write(bytes);
      wait();
    });
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      try {
        for (let read = readAnswer(received, bodiless); read; read = readAnswer(received, bodiless)) {
          answers.push(read.answer);
          received = read.rest as Buffer<ArrayBuffer>;
          if (read.answer.last) return finish('server');
        }
        wait();
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
