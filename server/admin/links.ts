import { policy } from '../../config/policy.ts';

/** Cursors of the pages beside a page, where there are such. */
export interface PageLinks {
  readonly next: string | undefined;
  readonly prev: string | undefined;
}

/**
 * RFC 8288 §3: the pages beside this one, by the same query with another cursor.
 * @returns '' where there is none, and where it would be too long for a proxy: an answer that nobody can read helps less
 *   than one without links. `next` goes first, the body has its cursor.
 */
export function linkHeader(url: string, query: string, links: PageLinks): string {
  const values = (['next', 'prev'] as const).flatMap((rel) => {
    const cursor = links[rel];
    if (!cursor) return [];
    const parameters = new URLSearchParams(query);
    parameters.set('cursor', cursor);
    return `<${url}?${parameters}>; rel="${rel}"`;
  });
  while (values.join(', ').length > policy.linkHeaderLimit) values.shift();
  return values.join(', ');
}
