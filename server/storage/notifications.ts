import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';

const retryDelayMs = 5_000;
const connectTimeoutMs = 5_000;
const goodbyeMs = 1_000;

/**
 * Listens for notifications on a connection of its own, and goes on trying where that is lost. A pooler in transaction
 * mode takes the LISTEN and delivers nothing: whoever needs to know must ask from time to time as well.
 */
export function listenTo(
  {
    connectionString,
    channel,
    onState = () => {},
  }: {
    readonly connectionString: string;
    readonly channel: string;
    /** Told whether anybody listens now. */
    readonly onState?: (connected: boolean) => void;
  },
  onNotification: () => void,
): { close(): Promise<void> } {
  let client: pg.Client | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  function connect(): void {
    const fresh = new pg.Client({
      connectionString,
      application_name: 'platform-tokens listener',
      connectionTimeoutMillis: connectTimeoutMs,
      keepAlive: true,
    });
    client = fresh;
    let lost = false;
    const again = () => {
      if (lost) return;
      lost = true;
      onState(false);
      fresh.end().catch(() => {});
      if (!closed) timer = setTimeout(connect, retryDelayMs).unref();
    };
    fresh.on('error', again);
    fresh.on('end', again);
    fresh.on('notification', onNotification);
    fresh
      .connect()
      .then(() => fresh.query(`LISTEN ${channel}`))
      .then(() => {
        onState(true);
        // What was told while nobody listened.
        onNotification();
      })
      .catch(again);
  }

  connect();
  return {
    async close() {
      closed = true;
      clearTimeout(timer);
      // A database that does not answer keeps nobody from stopping: there is nothing to lose.
      await Promise.race([client?.end().catch(() => {}), delay(goodbyeMs, undefined, { ref: false })]);
    },
  };
}
