import { execFile } from 'node:child_process';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import type { Door } from '../support/door.ts';
import type { Flood } from './flood.ts';
import type { Instance } from './instance.ts';
import type { Load } from './load.ts';
import type { Postgres } from './postgres.ts';

export interface Scene {
  readonly primary: Postgres;
  readonly standby: Postgres;
  readonly door: Door;
  readonly instances: readonly [Instance, Instance];
  readonly load: Load;
  /** One that nobody revokes. */
  readonly floodToken: string;
}

export interface Fault {
  readonly name: string;
  /** Breaks something, and mends it: what is mended when this returns must be well again within ten seconds. */
  readonly happen: (scene: Scene) => Promise<string | undefined>;
}

const seconds = (count: number) => setTimeout(count * 1_000);
const none = async (work: Promise<unknown>): Promise<undefined> => {
  await work;
  return undefined;
};

const failingInsert =
  (table: string): Fault['happen'] =>
  async ({ primary }) => {
    await primary.query(`
      CREATE FUNCTION refuse_it() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'refused by a trigger'; END $$;
      CREATE TRIGGER refuse_it BEFORE INSERT ON ${table} FOR EACH ROW EXECUTE FUNCTION refuse_it()`);
    await seconds(5);
    return none(primary.query(`DROP TRIGGER refuse_it ON ${table}; DROP FUNCTION refuse_it`));
  };

async function holdAllConnections({ primary }: Scene): Promise<undefined> {
  const held: pg.Client[] = [];
  const until = Date.now() + 6_000;
  const mine = new pg.Client({ connectionString: primary.url });
  await mine.connect();
  try {
    while (Date.now() < until) {
      const client = new pg.Client({ connectionString: primary.url, application_name: 'others' });
      client.on('error', () => {});
      try {
        await client.connect();
        held.push(client);
      } catch {
        // All are taken. Those of the servers are ended one after the other, and taken as well.
        await mine.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE application_name = 'platform-tokens' LIMIT 1`);
        await setTimeout(50);
      }
    }
  } finally {
    await Promise.allSettled(held.map((client) => client.end()));
    await mine.end();
  }
  return undefined;
}

/** With a standby that has what was acknowledged, as whoever fails over without loss needs it. */
async function failOver({ primary, standby, door }: Scene): Promise<undefined> {
  await primary.query("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
  await primary.query('SELECT pg_reload_conf()');
  for (;;) {
    const { rows } = await primary.query('SELECT sync_state FROM pg_stat_replication');
    if (rows[0]?.sync_state === 'sync') break;
    await setTimeout(100);
  }
  await seconds(1);
  await primary.kill('SIGKILL');
  await standby.promote();
  door.leadTo({ hostname: '127.0.0.1', port: String(standby.port) });
  door.cut();
  return undefined;
}

async function overload({ instances, floodToken }: Scene): Promise<string> {
  const [{ port }] = instances;
  const flood = async (connections: number, duration: number): Promise<Flood> => {
    const program = ['test/faults/flood.ts', String(port), floodToken, String(connections), String(duration)];
    return JSON.parse((await promisify(execFile)(process.execPath, program)).stdout);
  };
  const usual = await flood(32, 4);
  const much = await flood(3_600, 8);
  for (const { wrong } of [usual, much]) {
    if (Object.keys(wrong).length > 0) throw new Error(`the flood had ${JSON.stringify(wrong)}`);
  }
  const words = ({ accepted, p50, p99 }: Flood) =>
    `${Math.round(accepted)}/s, p50 ${Math.round(p50)} ms, p99 ${Math.round(p99)} ms`;
  return `32 connections without a pause: ${words(usual)}; 3,600: ${words(much)}, and ${Math.round(much.refused)}/s refused`;
}

/** In this order: after the failover the standby is the primary. */
export const faults: readonly Fault[] = [
  { name: 'none', happen: () => none(seconds(5)) },
  {
    name: 'PostgreSQL: `kill -9`, started 3 s later',
    async happen({ primary }) {
      await primary.kill('SIGKILL');
      await seconds(3);
      return none(primary.start());
    },
  },
  {
    name: 'PostgreSQL: restart',
    async happen({ primary }) {
      await primary.kill('SIGINT');
      return none(primary.start());
    },
  },
  {
    name: 'PostgreSQL: stands still for 8 s (`SIGSTOP`)',
    async happen({ primary }) {
      await primary.pause();
      await seconds(8);
      primary.resume();
      return undefined;
    },
  },
  {
    name: 'the way to it: 300 ms slower each way, for 6 s',
    async happen({ door }) {
      door.delay(300);
      await seconds(6);
      door.delay(0);
      return undefined;
    },
  },
  {
    name: 'the way to it: open connections lead nowhere, new ones do',
    async happen({ door }) {
      door.strand();
      return undefined;
    },
  },
  {
    name: 'the way to it: answers to 20 COMMITs are lost',
    async happen({ door }) {
      door.loseCommits(20, { sent: true });
      while (door.losing()) await setTimeout(100);
      return undefined;
    },
  },
  {
    name: 'the way to it: an answer to a COMMIT is lost, and it is shut for 5 s',
    async happen({ door }) {
      door.loseCommits(1, { sent: true, shuts: true });
      while (door.losing()) await setTimeout(10);
      await seconds(5);
      return none(door.open());
    },
  },
  { name: 'PostgreSQL: others hold all connections, for 6 s', happen: holdAllConnections },
  {
    name: 'PostgreSQL: read-only for 5 s',
    async happen({ primary }) {
      await primary.query('ALTER SYSTEM SET default_transaction_read_only = on');
      await primary.query('SELECT pg_reload_conf()');
      await seconds(5);
      await primary.query('ALTER SYSTEM RESET default_transaction_read_only');
      return none(primary.query('SELECT pg_reload_conf()'));
    },
  },
  { name: 'a trigger refuses audit events for 5 s', happen: failingInsert('audit_events') },
  { name: 'a trigger refuses platform tokens for 5 s', happen: failingInsert('platform_tokens') },
  { name: 'failover to a synchronous standby', happen: failOver },
  {
    name: 'an instance: SIGTERM, started again',
    async happen({ instances: [one] }) {
      const code = await one.end('SIGTERM');
      if (code !== 0) throw new Error(`it ended with ${code}`);
      return none(one.start());
    },
  },
  {
    name: 'an instance: `kill -9`, started again',
    async happen({ instances: [, other] }) {
      await other.end('SIGKILL');
      return none(other.start());
    },
  },
  {
    name: 'an instance: an error that nobody caught, started again',
    async happen({ instances: [one] }) {
      const code = await one.end('SIGUSR2');
      if (code !== 1) throw new Error(`it ended with ${code}`);
      return none(one.start());
    },
  },
  { name: 'an instance: more load than it can do', happen: overload },
];
