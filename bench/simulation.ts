import { policy } from '../config/policy.ts';

/**
 * A discrete-event simulation of clients, a balancer, instances and PostgreSQL. Deterministic: the same options give the
 * same result. All times in ms.
 */
export interface SimulationOptions {
  readonly seed: number;
  readonly durationMs: number;
  /** Not counted, at the beginning. */
  readonly warmUpMs: number;
  /** So many clients, each with one request in flight; or independent arrivals, a second, at a rate that may change. */
  readonly load: { readonly clients: number } | { readonly phases: readonly Phase[] };
  readonly instances: number;
  readonly instance: InstanceCost;
  /** Of the cost of an exchange on its instance: the standard deviation of its logarithm. 0 for a constant. */
  readonly spread: number;
  readonly database: DatabaseCost;
  /** One way, between any two. */
  readonly networkMs: number;
  /** One instance ends in the midst of its work; its clients try again at once, elsewhere. */
  readonly lossAtMs?: number | undefined;
}

export interface Phase {
  readonly fromMs: number;
  readonly rate: number;
}

/** Of the one thread that serves. */
export interface InstanceCost {
  /** An exchange, until its look-up waits. */
  readonly before: number;
  /** An exchange, from its look-up to its answer. */
  readonly after: number;
  /** A query, however many keys it has. */
  readonly query: number;
}

export interface DatabaseCost {
  /** Queries at once: its cores. */
  readonly servers: number;
  readonly query: number;
  readonly key: number;
  /** What is written behind the answers, an exchange. */
  readonly write: number;
}

export interface SimulationResult {
  /** Of the whole run. */
  readonly arrived: number;
  readonly answered: number;
  /** The rest of what was counted: after the warm-up. */
  readonly rate: number;
  readonly meanMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Requests in the system, averaged over time. */
  readonly meanPresent: number;
  readonly instanceUtilization: number;
  readonly databaseUtilization: number;
  readonly queriesAnExchange: number;
  /** When the last answer came: after the end of the load, what still waited is served. */
  readonly endMs: number;
}

const { calls: maximumCalls, keys: maximumKeys } = policy.joinedLookups;
// The product's: server/storage/usage.ts.
const usageBatch = 250;
/** What the operating system gives one of them before another. */
const sliceMs = 1;

interface Exchange {
  readonly since: number;
  cost: number;
  instance: Instance;
}

interface Instance {
  alive: boolean;
  busy: boolean;
  calls: number;
  unwritten: number;
  /** What the next turn of its event loop takes, and look-ups that wait for a query. */
  ready: { readonly exchange: Exchange; readonly isReply: boolean }[];
  waiting: Exchange[];
  readonly present: Set<Exchange>;
}

export function simulate(options: SimulationOptions): SimulationResult {
  const { instance: cost, database, networkMs, durationMs, warmUpMs, spread } = options;
  const random = createRandom(options.seed);
  const agenda = createAgenda();
  const instances = Array.from(
    { length: options.instances },
    (): Instance => ({
      alive: true,
      busy: false,
      calls: 0,
      unwritten: 0,
      ready: [],
      waiting: [],
      present: new Set(),
    }),
  );
  let alive = instances;
  const jobs: { readonly ms: number; readonly done: () => void }[] = [];
  const latencies: number[] = [];
  let [arrived, answered, present, queries, running, turn] = [0, 0, 0, 0, 0, 0];
  let [presentMs, instanceMs, databaseMs, presentSince] = [0, 0, 0, 0];

  /** The part of a span that is counted. */
  const counted = (from: number, to: number) =>
    Math.max(0, Math.min(to, durationMs) - Math.max(from, warmUpMs));
  const spend = (ms: number) => {
    instanceMs += counted(agenda.now(), agenda.now() + ms);
  };

  function changePresent(by: number): void {
    presentMs += present * counted(presentSince, agenda.now());
    presentSince = agenda.now();
    present += by;
  }

  /** The balancer takes the instances in turn. */
  function dispatch(exchange: Exchange): void {
    exchange.instance = alive[turn++ % alive.length] as Instance;
    exchange.instance.present.add(exchange);
    wake(exchange.instance, exchange, false);
  }

  function arrive(): void {
    const deviation = spread > 0 ? Math.exp(spread * random.normal() - spread ** 2 / 2) : 1;
    arrived += 1;
    changePresent(1);
    dispatch({ since: agenda.now(), cost: deviation, instance: instances[0] as Instance });
  }

  function wake(instance: Instance, exchange: Exchange, isReply: boolean): void {
    agenda.in(networkMs, () => {
      if (exchange.instance !== instance || !instance.alive) return;
      instance.ready.push({ exchange, isReply });
      if (instance.busy) return;
      instance.busy = true;
      // What comes at the same moment is ready in the same turn.
      agenda.in(0, () => runTurn(instance));
    });
  }

  /** One turn of an event loop: all that was ready when it began, and then one query for what has come to wait. */
  function runTurn(instance: Instance): void {
    const tasks = instance.ready;
    const done: Exchange[] = [];
    instance.ready = [];
    instance.busy = true;
    const next = (index: number): void => {
      if (!instance.alive) return;
      const task = tasks[index];
      if (task === undefined) {
        endTurn(instance);
        return;
      }
      const { exchange, isReply } = task;
      const ms = exchange.cost * (isReply ? cost.after : cost.before);
      spend(ms);
      agenda.in(ms, () => {
        if (!instance.alive) return;
        if (isReply) done.push(exchange);
        else instance.waiting.push(exchange);
        // Those of one reply go on in turns of a microtask each, so they end together.
        if (!tasks[index + 1]?.isReply) for (const one of done.splice(0)) answer(one);
        next(index + 1);
      });
    };
    next(0);
  }

  function endTurn(instance: Instance): void {
    const asks = instance.waiting.length > 0 && instance.calls < maximumCalls;
    if (asks) spend(cost.query);
    agenda.in(asks ? cost.query : 0, () => {
      if (!instance.alive) return;
      if (asks) ask(instance);
      const more = instance.waiting.length > 0 && instance.calls < maximumCalls;
      if (more || instance.ready.length > 0) runTurn(instance);
      else instance.busy = false;
    });
  }

  function ask(instance: Instance): void {
    const batch = instance.waiting.splice(0, maximumKeys);
    instance.calls += 1;
    if (counted(agenda.now(), agenda.now() + 1) > 0) queries += 1;
    const reply = () => {
      agenda.in(networkMs, () => {
        instance.calls -= 1;
      });
      for (const exchange of batch) wake(instance, exchange, true);
    };
    agenda.in(networkMs, () => submit(database.query + database.key * batch.length, reply));
  }

  function submit(ms: number, done: () => void): void {
    jobs.push({ ms, done });
    startJobs();
  }

  /** PostgreSQL's processes share its cores: look-ups come between. */
  function write(ms: number): void {
    const slice = Math.min(ms, sliceMs);
    submit(slice, () => {
      if (ms > slice) write(ms - slice);
    });
  }

  function startJobs(): void {
    while (running < database.servers) {
      const job = jobs.shift();
      if (job === undefined) return;
      running += 1;
      databaseMs += counted(agenda.now(), agenda.now() + job.ms);
      agenda.in(job.ms, () => {
        running -= 1;
        job.done();
        startJobs();
      });
    }
  }

  function answer(exchange: Exchange): void {
    const { instance, since } = exchange;
    instance.present.delete(exchange);
    instance.unwritten += 1;
    if (instance.unwritten === usageBatch) {
      instance.unwritten = 0;
      write(database.write * usageBatch);
    }
    agenda.in(networkMs, () => {
      answered += 1;
      changePresent(-1);
      if (since >= warmUpMs && since < durationMs) latencies.push(agenda.now() - since);
      if ('clients' in options.load && agenda.now() < durationMs) arrive();
    });
  }

  function lose(instance: Instance): void {
    instance.alive = false;
    alive = alive.filter((one) => one !== instance);
    for (const exchange of instance.present) dispatch(exchange);
  }

  /** Independent arrivals: a Poisson process in each phase. */
  function scheduleArrivals(phases: readonly Phase[]): void {
    const comeNext = (index: number, from: number): void => {
      const end = phases[index + 1]?.fromMs ?? durationMs;
      const at = from - (Math.log(1 - random.uniform()) * 1000) / (phases[index] as Phase).rate;
      if (at >= end && index + 1 < phases.length) comeNext(index + 1, end);
      else if (at < durationMs)
        agenda.in(at - agenda.now(), () => {
          arrive();
          comeNext(index, at);
        });
    };
    comeNext(0, 0);
  }

  if ('clients' in options.load) for (let client = 0; client < options.load.clients; client += 1) arrive();
  else scheduleArrivals(options.load.phases);
  const { lossAtMs } = options;
  if (lossAtMs !== undefined) agenda.in(lossAtMs, () => lose(instances[0] as Instance));
  agenda.run();

  const span = durationMs - warmUpMs;
  const lostMs = lossAtMs === undefined ? 0 : counted(lossAtMs, durationMs);
  const sorted = Float64Array.from(latencies).sort();
  const quantile = (q: number) => sorted[Math.floor(sorted.length * q)] ?? 0;
  return {
    arrived,
    answered,
    rate: (latencies.length * 1000) / span,
    meanMs: latencies.reduce((sum, one) => sum + one, 0) / latencies.length,
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    meanPresent: presentMs / span,
    instanceUtilization: instanceMs / (span * options.instances - lostMs),
    databaseUtilization: databaseMs / span / database.servers,
    queriesAnExchange: queries / latencies.length,
    endMs: agenda.now(),
  };
}

/** What is to happen, by time; of the same time, in the order in which it was entered. A binary heap. */
function createAgenda() {
  const heap: { readonly at: number; readonly order: number; readonly act: () => void }[] = [];
  let now = 0;
  let order = 0;
  const isBefore = (a: number, b: number) => {
    const one = heap[a];
    const other = heap[b];
    if (one === undefined || other === undefined) return one !== undefined;
    return one.at < other.at || (one.at === other.at && one.order < other.order);
  };
  const swap = (a: number, b: number) => {
    const one = heap[a];
    heap[a] = heap[b] as (typeof heap)[number];
    heap[b] = one as (typeof heap)[number];
  };
  return {
    now: () => now,
    in(ms: number, act: () => void): void {
      heap.push({ at: now + ms, order: order++, act });
      for (let child = heap.length - 1; child > 0; ) {
        const parent = (child - 1) >> 1;
        if (!isBefore(child, parent)) break;
        swap(child, parent);
        child = parent;
      }
    },
    run(): void {
      while (heap.length > 0) {
        swap(0, heap.length - 1);
        const first = heap.pop();
        for (let parent = 0; ; ) {
          const [left, right] = [2 * parent + 1, 2 * parent + 2];
          const child = isBefore(right, left) ? right : left;
          if (!isBefore(child, parent)) break;
          swap(child, parent);
          parent = child;
        }
        if (first === undefined) return;
        now = first.at;
        first.act();
      }
    },
  };
}

/** Marsaglia's xorshift with 32 bits, and normal deviates by Box and Muller. */
export function createRandom(seed: number) {
  let state = seed | 0 || 1;
  const uniform = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  return {
    uniform,
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  };
}
