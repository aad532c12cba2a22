import { policy } from '../config/policy.ts';
import { statusListSize } from '../server/domain/status-list.ts';
import { fitCost, type Inputs } from './scaling-inputs.ts';

/** The capacity model: what so many exchanges a month need. Pure functions of the inputs. */

export interface Plan {
  readonly exchanges: number;
  /** A second. */
  readonly mean: number;
  readonly peak: number;
  readonly instances: number;
  readonly lookups: number;
  readonly serverCpuMs: number;
  readonly events: number;
  readonly usedTokens: number;
  readonly tokens: number;
  readonly postgres: Need;
  readonly walMbPerSecondPeak: number;
  readonly statusLists: number;
  /** Of building the lists behind a shared cache, in vCPUs. */
  readonly listVcpu: number;
  /** What is short on one primary, most short first; above 1 it does not fit. */
  readonly pressure: readonly { readonly what: string; readonly ratio: number }[];
  readonly cost: Cost;
}

interface Need {
  readonly vcpu: number;
  readonly ramGb: number;
  readonly storageGb: number;
  readonly eventsGb: number;
  readonly walMbPerSecond: number;
  readonly connections: number;
}

interface Cost {
  readonly instances: number;
  readonly postgres: number;
  readonly storage: number;
  readonly backups: number;
  readonly cdn: number;
  readonly total: number;
}

/** Two queries under way: with c exchanges in flight, each query takes about c / 2. */
export function lookupsOf(inFlight: number, { levels }: Inputs): number {
  const many = levels.filter(({ connections }) => connections >= 16);
  const factor = many.reduce((sum, row) => sum + row.lookups * row.connections, 0) / many.length;
  return Math.min(1, Math.max(1 / policy.joinedLookups.keys, factor / Math.max(1, inFlight)));
}

/** CPU of an instance for an exchange that costs so many look-ups. */
export function serverCpuOf(lookups: number, { levels }: Inputs): number {
  const { exchangeMs, queryMs } = fitCost(levels);
  return exchangeMs + queryMs * lookups;
}

/**
 * Events an exchange. Summaries are made in each process: behind a balancer that takes the instances in turn a client's
 * minute is split among all of them, and where nothing is left to count in one, each exchange has its event.
 */
export function eventsOf(exchangesAMinute: number, instances: number): number {
  const inOne = exchangesAMinute / instances;
  return Math.min(1, (policy.exchangeEventsAMinute + 2) / inOne);
}

/** Of so many pages the expected number that n touches at random change, each for the first time since a checkpoint. */
export const touchedPages = (pages: number, touches: number): number =>
  pages > 0 ? pages * -Math.expm1(-touches / pages) : 0;

/** Full pages in the WAL, an event with its last use. */
export function fullPagesOf(tokens: number, monthEvents: number, perSecond: number, inputs: Inputs): number {
  const { storage, targets } = inputs;
  const n = (perSecond * targets.checkpointMs) / 1000;
  if (n <= 0) return 0;
  const pages = (bytes: number) => bytes / storage.page;
  const uses = storage.uses.reduce((sum, bytes) => sum + touchedPages(pages(tokens * bytes), n), 0);
  const trail = touchedPages(pages((monthEvents / 2) * storage.eventTokenEntry), n);
  return (uses + trail) / n;
}

/** Enough at the peak with one more, enough with a zone lost, and as many in each zone. */
export function instancesFor(peak: number, cpuMs: number, { targets }: Inputs): number {
  const vcpu = (peak * cpuMs) / 1000;
  const inZones = (count: number) => Math.ceil(count / targets.zones) * targets.zones;
  const withSpare = Math.ceil(vcpu / targets.utilization) + 1;
  const aZoneLost =
    (Math.ceil(vcpu / targets.utilizationOfOneZone) * targets.zones) / Math.max(1, targets.zones - 1);
  return inZones(Math.max(withSpare, aZoneLost));
}

export function peakOf(mean: number, { traffic, monthMs }: Inputs): number {
  const { peak, wave, renewalMs, cachingShare } = traffic;
  const clients = (((mean * monthMs) / 1000) * cachingShare * renewalMs) / monthMs;
  return Math.max(peak * mean, mean + (clients * wave.share * 1000) / wave.ms);
}

export function plan(exchanges: number, inputs: Inputs): Plan {
  const { traffic, targets, storage, primary, postgres, lists, monthMs } = inputs;
  const mean = (exchanges * 1000) / monthMs;
  const peak = peakOf(mean, inputs);

  // Look-ups depend on the load of an instance, and that on their number: a few steps settle it.
  let [instances, lookups] = [1, 1];
  for (let step = 0; step < 20; step += 1) {
    instances = instancesFor(peak, serverCpuOf(lookups, inputs), inputs);
    lookups = lookupsOf((peak / instances / 1000) * targets.answerMs, inputs);
  }
  const serverCpuMs = serverCpuOf(lookups, inputs);

  const { cachingShare } = traffic;
  const cachingTokens = (exchanges * cachingShare * traffic.renewalMs) / monthMs;
  const otherTokens = (mean * (1 - cachingShare) * 60) / traffic.neverCachingAMinute;
  const events = cachingShare + (1 - cachingShare) * eventsOf(traffic.neverCachingAMinute, instances);
  const usedTokens = cachingTokens + otherTokens;
  const tokens = usedTokens * traffic.tokensForEachUsed;
  const monthEvents = exchanges * events;

  const walOf = (rate: number) =>
    (rate *
      events *
      (storage.walEvent +
        fullPagesOf(usedTokens, monthEvents, rate * events, inputs) * storage.walFullPageCompressed)) /
    1e6;
  const postgresCpuMs = lookups * postgres.queryMs + postgres.keyMs + events * postgres.eventMs;
  const eventsGb = (monthEvents * inputs.eventMonths * storage.event) / 1e9;
  // Of the index of events by token, the page where each used token's next entry goes.
  const trailPages = Math.min(usedTokens, (monthEvents * storage.eventTokenEntry) / storage.page);
  const hotGb = (usedTokens * storage.tokenHot + trailPages * storage.page) / 1e9;
  const need: Need = {
    vcpu: Math.max(2, Math.ceil((peak * postgresCpuMs) / 1000 / targets.utilization)),
    ramGb: Math.max(4, Math.ceil(hotGb / targets.cacheHit)),
    storageGb: Math.max(20, Math.ceil((tokens * storage.token) / 1e9 + eventsGb)),
    eventsGb,
    walMbPerSecond: walOf(mean),
    connections: instances * primary.connectionsOfAnInstance,
  };
  const walMbPerSecondPeak = walOf(peak);
  const statusLists = Math.ceil(tokens / statusListSize);
  const pressure = [
    { what: 'storage', ratio: need.storageGb / 1000 / primary.storageTb },
    { what: 'connections', ratio: need.connections / primary.connections },
    { what: 'WAL', ratio: walMbPerSecondPeak / primary.walMbPerSecond },
    { what: 'memory', ratio: need.ramGb / primary.ramGb },
    { what: 'CPU', ratio: need.vcpu / primary.vcpu },
  ].sort((a, b) => b.ratio - a.ratio);
  return {
    exchanges,
    mean,
    peak,
    instances,
    lookups,
    serverCpuMs,
    events,
    usedTokens,
    tokens,
    postgres: need,
    walMbPerSecondPeak,
    statusLists,
    listVcpu: (statusLists * lists.buildMs) / (policy.statusListMaxAge * 1000),
    pressure,
    cost: costOf(instances, need, statusLists, inputs),
  };
}

function costOf(instances: number, need: Need, statusLists: number, inputs: Inputs): Cost {
  const { prices, targets, instanceRamGb, monthMs } = inputs;
  const machine = (vcpu: number, ramGb: number) => vcpu * prices.vcpu + ramGb * prices.ramGb;
  const walGb = (need.walMbPerSecond * 86_400 * targets.walDays) / 1000;
  const parts = {
    instances: instances * machine(1, instanceRamGb),
    // A primary and a standby.
    postgres: 2 * machine(need.vcpu, need.ramGb),
    storage: 2 * need.storageGb * prices.ssdGb,
    backups: (need.storageGb + walGb) * prices.objectGb,
    cdn: listTrafficGb(statusLists, monthMs, inputs) * prices.cdnGb,
  };
  return { ...parts, total: Object.values(parts).reduce((sum, one) => sum + one, 0) };
}

/** Each verifier asks for each list it meets every minute; it gets the whole of it when it has changed. */
export function listTrafficGb(statusLists: number, monthMs: number, { lists }: Inputs): number {
  const asked = monthMs / 1000 / policy.statusListTtl;
  const signed = (monthMs * 2) / 1000 / policy.statusListLifetime + lists.revokedAMonth * statusListSize;
  const changed = Math.min(asked, signed);
  const bytes = changed * lists.bytes + (asked - changed) * lists.notModifiedBytes;
  return (statusLists * lists.verifiers * bytes) / 1e9;
}

/** Primaries, where each bears its share of what is short: by the hash of the digest, or in cells. */
export const primariesFor = ({ pressure }: Plan): number =>
  Math.max(1, ...pressure.filter(({ what }) => what !== 'connections').map(({ ratio }) => Math.ceil(ratio)));
