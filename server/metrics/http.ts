import { type Cell, type Histogram, observe, type Registry } from './registry.ts';

/** From the quickest answer to the longest that a request may take, in seconds. */
export const durationBounds = [
  0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];
const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
const statuses = ['other', '1xx', '2xx', '3xx', '4xx', '5xx'];
/** Routes are patterns out of the code, far fewer than this: a bound that does not hang on that. */
const routesAtMost = 200;

/** A few kinds of answer that are alike in what they cost, by the beginning of the route. */
const classes = [
  ['/oauth/token', 'token'],
  ['/oauth/jwks', 'document'],
  ['/.well-known/', 'document'],
  ['/oauth/status-lists/', 'status_list'],
  ['/oauth/introspect', 'introspection'],
  ['/oauth/revoke', 'revocation'],
  ['/oauth/', 'sign_in'],
  ['/admin/', 'admin'],
  ['/leaks/', 'leak_report'],
  ['/dashboard', 'dashboard'],
  ['/health/', 'health'],
  ['/metrics', 'metrics'],
] as const;

interface RouteCells {
  /** As its label has it. */
  readonly name: string;
  readonly durations: Histogram;
  /** By method and class of status, each when it is first needed: most routes have one of either. */
  readonly requests: Map<string, Cell[]>;
}

export type HttpMetrics = ReturnType<typeof createHttpMetrics>;

export function createHttpMetrics(registry: Registry) {
  const requests = registry.counter({
    name: 'platform_tokens_http_requests_total',
    help: 'Requests that were answered, or whose client went away (4xx, like a 501: what nobody offers is no failure).',
    labels: ['route', 'method', 'status'],
  });
  const durations = registry.histogram(
    {
      name: 'platform_tokens_http_request_duration_seconds',
      help: 'From the request line to the end of the answer, in seconds.',
      labels: ['class'],
    },
    durationBounds,
  );
  const inFlight = registry.gauge(
    { name: 'platform_tokens_http_requests_in_flight', help: 'Requests that are being answered.' },
    'sum',
  )();
  inFlight.value = 0;
  const connections = registry.gauge(
    { name: 'platform_tokens_http_connections', help: 'Open connections of clients.' },
    'sum',
  )();
  const shed = registry.counter({
    name: 'platform_tokens_overload_refused_total',
    help: 'Requests that were refused at the front, above what the process can do; counted nowhere else.',
  })();
  const share = registry.gauge(
    {
      name: 'platform_tokens_overload_share',
      help: 'Of the requests that come now, the share that is refused so.',
    },
    'max',
  )();
  const routes = new Map<string, RouteCells>();

  function cellsOf(route: string): RouteCells {
    const known = routes.get(route);
    if (known) return known;
    if (routes.size >= routesAtMost && route !== 'other') return cellsOf('other');
    const [, name] = classes.find(([start]) => route.startsWith(start)) ?? ['', 'other'];
    const made = { name: route, durations: durations(name), requests: new Map() };
    routes.set(route, made);
    return made;
  }

  function countRequest({ name, requests: cells }: RouteCells, sent: string, status: number): void {
    const method = methods.has(sent) ? sent : 'other';
    let byStatus = cells.get(method);
    if (!byStatus) {
      byStatus = [];
      cells.set(method, byStatus);
    }
    const counted = status === 501 ? 400 : status;
    const index = counted >= 100 && counted < 600 ? Math.trunc(counted / 100) : 0;
    const cell = byStatus[index] ?? requests(name, method, statuses[index] as string);
    byStatus[index] = cell;
    cell.value += 1;
  }

  return {
    started(): void {
      inFlight.value += 1;
    },
    /** @param route its pattern, never the path; @param status 499 where the client went away */
    ended(route: string, method: string, status: number, seconds: number): void {
      inFlight.value -= 1;
      const cells = cellsOf(route);
      countRequest(cells, method, status);
      observe(cells.durations, seconds);
    },
    watchOverload(overload: { readonly refused: number; readonly share: number }): void {
      registry.onRead(() => {
        shed.value = overload.refused;
        share.value = overload.share;
      });
    },
    /** Asks for the number of open connections at every reading. */
    watchConnections(count: () => number): void {
      registry.onRead(() => {
        connections.value = count();
      });
    },
  };
}
