import { once } from 'node:events';
import { EmbeddedPostgresError, startEmbedded } from '../../server/storage/embedded.ts';

/**
 * A server in a process of its own, to be killed: starts PostgreSQL on the given directory, says how that went
 * in one line of JSON, and ends at SIGTERM.
 */
const [dataDir = ''] = process.argv.slice(2);
try {
  const embedded = await startEmbedded({ dataDir, settings: { fsync: 'off' } });
  process.stdout.write(`${JSON.stringify({ connectionString: embedded.connectionString })}\n`);
  const alive = setInterval(() => {}, 60_000);
  await once(process, 'SIGTERM');
  await embedded.stop();
  clearInterval(alive);
} catch (error) {
  const code = error instanceof EmbeddedPostgresError ? error.code : 'unexpected';
  process.stdout.write(`${JSON.stringify({ code, message: String(error) })}\n`);
}
