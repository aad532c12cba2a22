import { createContext, useContext, useEffect, useSyncExternalStore } from 'react';
import type { Api } from './api/client.ts';
import type { Queries } from './api/queries.ts';
import type { Reachability } from './api/reachability.ts';
import type { Session } from './session/session.ts';

/** What every view works with; made once, outside React. */
export interface Services {
  readonly session: Session;
  readonly api: Api;
  readonly queries: Queries;
  readonly reachability: Reachability;
}

export const ServicesContext = createContext<Services | undefined>(undefined);

export function useServices(): Services {
  const services = useContext(ServicesContext);
  if (!services) throw new Error('outside ServicesContext');
  return services;
}

export function useSessionState() {
  const { session } = useServices();
  return useSyncExternalStore(session.subscribe, session.state);
}

/** Warns before the page is left, while `active`. */
export function useLeaveWarning(active: boolean): void {
  useEffect(() => {
    if (!active) return;
    const warn = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener('beforeunload', warn);
    return () => window.removeEventListener('beforeunload', warn);
  }, [active]);
}
