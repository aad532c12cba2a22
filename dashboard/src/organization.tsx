import { createContext, type ReactNode, useContext } from 'react';
import { useLocation, useSearchParams } from 'wouter';
import type { Me } from './api/client.ts';

export type Membership = Me['memberships'][number];

interface Current {
  readonly me: Me;
  /** Whose tokens are shown; undefined where the address names one that the user does not belong to. */
  readonly membership: Membership | undefined;
}

const Context = createContext<Current | undefined>(undefined);
const parameter = 'organization';
const storageKey = 'platform-tokens.organization';

/** The organization of the address, so that a view can be shared; else the one chosen last; else the first. */
export function OrganizationProvider({ me, children }: { readonly me: Me; readonly children: ReactNode }) {
  const [search] = useSearchParams();
  const find = (id: string | null) => me.memberships.find(({ organization }) => organization.id === id);
  const named = search.get(parameter);
  const membership =
    named === null ? (find(localStorage.getItem(storageKey)) ?? me.memberships[0]) : find(named);
  return <Context value={{ me, membership }}>{children}</Context>;
}

export function useCurrent(): Current {
  const current = useContext(Context);
  if (!current) throw new Error('outside OrganizationProvider');
  return current;
}

/** Where a view of the current organization is. */
export function useHref(): (path: string) => string {
  const { me, membership } = useCurrent();
  return (path) =>
    me.memberships.length > 1 && membership ? `${path}?${parameter}=${membership.organization.id}` : path;
}

/** To the same view of another organization: filters and pages of this one mean nothing there. */
export function useSwitchOrganization(): (id: string) => void {
  const [path, navigate] = useLocation();
  return (id) => {
    localStorage.setItem(storageKey, id);
    navigate(`${path}?${parameter}=${id}`);
  };
}
