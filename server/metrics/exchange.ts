import { durationBounds } from './http.ts';
import { type Cell, observe, type Registry } from './registry.ts';

/** Services are rows, and labels must be few: the first so many of a process have their own, the others one together. */
const servicesAtMost = 100;
/** No service is called so: an id has no underscore. */
const otherServices = '_other';

const grantTypes: Record<string, string> = {
  'urn:ietf:params:oauth:grant-type:token-exchange': 'token_exchange',
  client_credentials: 'client_credentials',
  authorization_code: 'authorization_code',
  refresh_token: 'refresh_token',
};

const outcomes = [
  'granted',
  'invalid_subject_token',
  'invalid_request',
  'invalid_scope',
  'invalid_target',
  'invalid_client',
  'unauthorized_client',
  'limited',
  'unavailable',
  'aborted',
  'error',
] as const;
export type ExchangeOutcome = (typeof outcomes)[number];
const known = new Set<string>(outcomes);

export type ExchangeMetrics = ReturnType<typeof createExchangeMetrics>;

export function createExchangeMetrics(registry: Registry) {
  const exchanges = registry.counter({
    name: 'platform_tokens_exchanges_total',
    help: 'Token exchanges by outcome, and by service where the platform token told it.',
    labels: ['outcome', 'service'],
  });
  const durations = registry.histogram(
    {
      name: 'platform_tokens_exchange_duration_seconds',
      help: 'Exchanges that were granted, from the request line to the end of the answer, in seconds.',
    },
    durationBounds,
  )();
  const issued = registry.counter({
    name: 'platform_tokens_access_tokens_total',
    help: 'Access tokens that were issued.',
    labels: ['grant_type'],
  });
  const byGrant = new Map(Object.values(grantTypes).map((name) => [name, issued(name)]));
  // All of them from the start: an alert on a share needs its parts before they happen.
  for (const outcome of outcomes) exchanges(outcome, '');
  const services = new Map<string, Map<string, Cell>>();

  function cellsOf(service: string): Map<string, Cell> {
    const cells = services.get(service);
    if (cells) return cells;
    if (services.size >= servicesAtMost && service !== otherServices) return cellsOf(otherServices);
    const made = new Map<string, Cell>();
    services.set(service, made);
    return made;
  }

  return {
    /** @param service empty where it is unknown */
    exchanged(outcome: string, service: string, seconds: number): void {
      const name = known.has(outcome) ? outcome : 'error';
      const cells = cellsOf(service);
      let cell = cells.get(name);
      if (!cell) {
        cell = exchanges(name, services.has(service) ? service : otherServices);
        cells.set(name, cell);
      }
      cell.value += 1;
      // In a storm refusals wait on purpose: they are in the histogram of all requests.
      if (name === 'granted') observe(durations, seconds);
    },
    issued(grantType: string): void {
      const cell = byGrant.get(grantTypes[grantType] ?? '');
      if (cell) cell.value += 1;
    },
  };
}
