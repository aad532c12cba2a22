import { monitorEventLoopDelay } from 'node:perf_hooks';

/** Loaded into the server that is fuzzed (`node --expose-gc --import`): says what it holds and how long it was busy. */
const delay = monitorEventLoopDelay({ resolution: 5 });
delay.enable();

process.on('message', () => {
  const delayMs = delay.max / 1e6;
  // Twice: what a finalizer lets go of is collected by the second.
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, rss } = process.memoryUsage();
  delay.reset();
  const { user, system } = process.cpuUsage();
  process.send?.({ heapUsed, rss, delayMs, cpu: (user + system) / 1e6 });
});
process.channel?.unref();
// The test that started it is gone.
process.once('disconnect', () => process.exit(1));
