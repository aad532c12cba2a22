import { readdirSync } from 'node:fs';
import {
  constants,
  monitorEventLoopDelay,
  type PerformanceEntry,
  PerformanceObserver,
  performance,
} from 'node:perf_hooks';
import { observe, type Registry } from './registry.ts';

/** How long the greatest event-loop delay is remembered: longer than the usual time between two readings. */
const windowMs = 30_000;
/** Node.js measures from one look to the next, which is so long where nothing is in the way. */
const lookEveryMs = 10;
const gcBounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];
const gcKinds: Record<number, string> = {
  [constants.NODE_PERFORMANCE_GC_MAJOR]: 'major',
  [constants.NODE_PERFORMANCE_GC_MINOR]: 'minor',
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL]: 'incremental',
  [constants.NODE_PERFORMANCE_GC_WEAKCB]: 'weakcb',
};

/**
 * Of the process, under the names that dashboards for Node.js know: CPU, memory, event loop, garbage collection.
 * @returns what stops watching
 */
export function watchProcess(registry: Registry): () => void {
  const gauge = (name: string, help: string) => registry.gauge({ name, help }, 'sum')();
  const counter = (name: string, help: string) => registry.counter({ name, help })();
  const cpu = counter('process_cpu_seconds_total', 'CPU time used, in user and system mode, in seconds.');
  const rss = gauge('process_resident_memory_bytes', 'Resident memory, in bytes.');
  const heapUsed = gauge('nodejs_heap_size_used_bytes', "V8's heap in use, in bytes.");
  const heapTotal = gauge('nodejs_heap_size_total_bytes', "V8's heap, in bytes.");
  const external = gauge('nodejs_external_memory_bytes', 'Memory of objects outside the heap, in bytes.');
  const descriptors = gauge('process_open_fds', 'Open file descriptors.');
  const started = registry.gauge(
    { name: 'process_start_time_seconds', help: 'Start of the (first) process, in seconds since 1970.' },
    'min',
  )();
  started.value = performance.timeOrigin / 1000;
  registry.onRead(() => {
    const { user, system } = process.cpuUsage();
    cpu.value = (user + system) / 1e6;
    const memory = process.memoryUsage();
    rss.value = memory.rss;
    heapUsed.value = memory.heapUsed;
    heapTotal.value = memory.heapTotal;
    external.value = memory.external;
    descriptors.value = countDescriptors();
  });
  const stopLoop = watchEventLoop(registry);
  const stopGc = watchGarbageCollection(registry);
  return () => {
    stopLoop();
    stopGc();
  };
}

/** NaN, which is not shown, where the system does not tell. */
function countDescriptors(): number {
  try {
    return readdirSync('/proc/self/fd').length - 1;
  } catch {
    return Number.NaN;
  }
}

function watchEventLoop(registry: Registry): () => void {
  const delay = monitorEventLoopDelay({ resolution: lookEveryMs });
  delay.enable();
  const statistics = registry.gauge(
    {
      name: 'platform_tokens_event_loop_delay_seconds',
      help: 'Delay of the event loop over the last half minute, of the process where it is longest, in seconds.',
      labels: ['statistic'],
    },
    'max',
  );
  const [median, p99, max] = [statistics('median'), statistics('p99'), statistics('max')];
  const busy = registry.counter({
    name: 'platform_tokens_event_loop_active_seconds_total',
    help: 'Time that event loops have worked, in seconds.',
  })();
  const idle = registry.counter({
    name: 'platform_tokens_event_loop_idle_seconds_total',
    help: 'Time that event loops have waited for something to do, in seconds.',
  })();
  let before = { median: 0, p99: 0, max: 0 };
  const seconds = (ns: number) => Math.max(0, ns / 1e9 - lookEveryMs / 1e3) || 0;
  const present = () => ({
    median: seconds(delay.percentile(50)),
    p99: seconds(delay.percentile(99)),
    max: seconds(delay.max),
  });
  // By a clock of its own: reset by a reading, it would show each of two readers half of the truth.
  const timer = setInterval(() => {
    before = present();
    delay.reset();
  }, windowMs / 2).unref();
  registry.onRead(() => {
    const now = present();
    median.value = Math.max(before.median, now.median);
    p99.value = Math.max(before.p99, now.p99);
    max.value = Math.max(before.max, now.max);
    const utilization = performance.eventLoopUtilization();
    busy.value = utilization.active / 1000;
    idle.value = utilization.idle / 1000;
  });
  return () => {
    clearInterval(timer);
    delay.disable();
  };
}

function watchGarbageCollection(registry: Registry): () => void {
  const durations = registry.histogram(
    { name: 'nodejs_gc_duration_seconds', help: 'Garbage collections, in seconds.', labels: ['kind'] },
    gcBounds,
  );
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { duration, detail } = entry as PerformanceEntry & { readonly detail: { readonly kind: number } };
      const { kind } = detail;
      observe(durations(gcKinds[kind] ?? 'other'), duration / 1000);
    }
  });
  observer.observe({ entryTypes: ['gc'] });
  return () => observer.disconnect();
}
