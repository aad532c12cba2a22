import { createContext, type ReactNode, useContext, useEffect, useState } from 'react';
import { useLocation } from 'wouter';
import type { Me } from './api/client.ts';
import { paths } from './paths.ts';
import { changeSearchParameters, useSearchParameters } from './search.ts';
import { lasting } from './storage.ts';

export type Membership = Me['memberships'][number];

interface Current {
  readonly me: Me;
  /** Whose tokens are shown; undefined where the address names one that the user does not belong to. */
  readonly membership: Membership | undefined;
}

const Context = createContext<Current | undefined>(undefined);
const parameter = 'organization';
const memoryName = 'organization';

/**
 * The organization of the address; else the one chosen last, else the first, which the address then names: so a view
 * can be shared, and stays what it is whatever is chosen in another tab.
 */
export function OrganizationProvider({ me, children }: { readonly me: Me; readonly children: ReactNode }) {
  const search = useSearchParameters();
  const find = (id: string | null) => me.memberships.find(({ organization }) => organization.id === id);
  const [chosenLast] = useState(() => lasting.get(memoryName));
  const named = search.get(parameter);
  const membership = named === null ? (find(chosenLast) ?? me.memberships[0]) : find(named);
  const missing = named === null ? membership?.organization.id : undefined;
  useEffect(() => {
    if (missing !== undefined)
      changeSearchParameters((next) => next.set(parameter, missing), { replace: true });
  }, [missing]);
  return <Context value={{ me, membership }}>{children}</Context>;
}

export function useCurrent(): Current {
  const current = useContext(Context);
  if (!current) throw new Error('outside OrganizationProvider');
  return current;
}

/** Where a view of the current organization is. */
export function useHref(): (path: string) => string {
  const { membership } = useCurrent();
  return (path) => (membership ? `${path}?${parameter}=${membership.organization.id}` : path);
}

/** To the same view of another organization, where the user may see it: filters and pages of this one mean nothing there. */
export function useSwitchOrganization(): (id: string) => void {
  const { me } = useCurrent();
  const [path, navigate] = useLocation();
  return (id) => {
    lasting.set(memoryName, id);
    const isAdmin = me.memberships.some(
      ({ organization, role }) => organization.id === id && role === 'admin',
    );
    const target = path === paths.members && !isAdmin ? paths.accessTokens : path;
    navigate(`${target}?${parameter}=${id}`);
  };
}
