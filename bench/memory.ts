import { parseArgs } from 'node:util';
import { createDatabase } from '../server/storage/database.ts';
import { fill } from './fixture.ts';
import { drive } from './load.ts';
import { exchangeRequest } from './requests.ts';
import { type Cleanup, createEnvironment, run, say, startCandidate, startDatabase } from './stage.ts';
import { median } from './statistics.ts';

/** The resident set of one process over a million exchanges, and how long it takes to start. */

const targets = { spread: 0.1, mb: 200, startMs: 2_000 };
const connections = 64;
const sliceMs = 10_000;
// Until then V8 still compiles, and its heap finds its size.
const warmUp = 0.1;

async function main(cleanup: Cleanup): Promise<boolean> {
  const { values } = parseArgs({ options: { exchanges: { type: 'string', default: '1000000' } } });
  if (!/^[1-9]\d{4,8}$/.test(values.exchanges)) throw new Error('--exchanges must be a number from 10000 on');
  const exchanges = Number(values.exchanges);
  const { directory, connectionString } = await startDatabase(cleanup);
  const database = createDatabase({ connectionString, limited: false });
  cleanup.add(() => database.close());
  const requests = (await fill(database, 100_000, 5_000)).map((token) => exchangeRequest(token));
  const environment = createEnvironment(connectionString, directory);

  // The first one makes the keys: what counts is the second.
  await (await startCandidate('product', environment, directory, cleanup)).stop();
  const begin = performance.now();
  const product = await startCandidate('product', environment, directory, cleanup);
  const startMs = performance.now() - begin;
  say(`ready after ${startMs.toFixed(0)} ms`);

  const sizes: number[] = [];
  let done = 0;
  while (done < exchanges) {
    const { answers, rate } = await drive({
      port: product.port,
      connections,
      requests,
      rampMs: 0,
      durationMs: sliceMs,
    });
    done += answers;
    const { rss } = await product.sample();
    if (done > exchanges * warmUp) sizes.push(rss / 1e6);
    say(`${done} exchanges  ${(rss / 1e6).toFixed(0)} MB  ${rate.toFixed(0)}/s`);
  }
  const { rssMax } = await product.sample();
  const middle = median(sizes);
  const [lowest, highest] = [Math.min(...sizes), Math.max(...sizes)];
  const flat = lowest >= middle * (1 - targets.spread) && highest <= middle * (1 + targets.spread);
  const small = rssMax / 1e6 < targets.mb;
  const quick = startMs < targets.startMs;
  const verdict = (met: boolean) => (met ? 'met' : 'MISSED');
  process.stdout.write(
    [
      '',
      `start to ready  ${startMs.toFixed(0)} ms  (target under ${targets.startMs}: ${verdict(quick)})`,
      `resident set over ${done} exchanges  ${lowest.toFixed(0)} to ${highest.toFixed(0)} MB, median ${middle.toFixed(0)}  (target ±10 %: ${verdict(flat)})`,
      `highest ever  ${(rssMax / 1e6).toFixed(0)} MB  (target under ${targets.mb}: ${verdict(small)})`,
      '',
    ].join('\n'),
  );
  return flat && small && quick;
}

await run(main);
