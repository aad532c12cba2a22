import type { Knex } from 'knex';

export type StatusLists = ReturnType<typeof createStatusLists>;

// Each part by an index of its own; what is found twice sets one bit twice.
const readRange = `SELECT (SELECT max(status_index) FROM platform_tokens) AS highest, array(
    SELECT t.status_index - :first FROM platform_tokens t
      WHERE t.status_index BETWEEN :first AND :last AND t.revoked_at IS NOT NULL
    UNION ALL
    SELECT t.status_index - :first FROM users u JOIN platform_tokens t ON t.user_id = u.id
      WHERE u.status <> 'active' AND t.status_index BETWEEN :first AND :last
    UNION ALL
    SELECT t.status_index - :first FROM organizations o JOIN platform_tokens t ON t.organization_id = o.id
      WHERE o.status <> 'active' AND t.status_index BETWEEN :first AND :last
    UNION ALL
    SELECT t.status_index - :first FROM services s JOIN platform_tokens t ON t.service_id = s.id
      WHERE s.status <> 'active' AND t.status_index BETWEEN :first AND :last
  )::int[] AS invalid`;

export function createStatusLists(knex: Knex) {
  return {
    /**
     * @returns the highest place that is taken, -1 for none; and the places, reckoned from `first`, of the tokens up to
     *   `last` that are revoked, or whose user, organization or service is inactive; in any order, and perhaps twice
     */
    async read(first: number, last: number): Promise<{ highest: number; invalid: number[] }> {
      const { rows } = await knex.raw(readRange, { first, last });
      const [{ highest, invalid }] = rows as [{ highest: string | null; invalid: number[] }];
      return { highest: Number(highest ?? -1), invalid };
    },
  };
}
