import { useMemo } from 'react';
import { navigate, useLocationProperty } from 'wouter/use-browser-location';

export interface HowToChange {
  /** Takes the place of the present entry of the history. */
  readonly replace: boolean;
}

/** The address's parameters as they are: the router decodes them first, and would take `%2541` for `A`. */
export function useSearchParameters(): URLSearchParams {
  const search = useLocationProperty(() => location.search);
  return useMemo(() => new URLSearchParams(search), [search]);
}

/** Of the address as it is now, whatever was rendered. */
export function changeSearchParameters(
  edit: (parameters: URLSearchParams) => void,
  how: HowToChange = { replace: false },
): void {
  const next = new URLSearchParams(location.search);
  edit(next);
  navigate(next.size > 0 ? `${location.pathname}?${next}` : location.pathname, how);
}
