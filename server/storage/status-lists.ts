import type { Database } from './database.ts';

export type StatusLists = ReturnType<typeof createStatusLists>;

// Each part by an index of its own; what is found twice sets one bit twice.
const findInvalid = {
  name: 'status-list',
  text: `SELECT (SELECT max(status_index) FROM platform_tokens) AS highest, array(
      SELECT t.status_index - $1::bigint FROM platform_tokens t
        WHERE t.status_index BETWEEN $1::bigint AND $2::bigint AND t.revoked_at IS NOT NULL
      UNION ALL
      SELECT t.status_index - $1::bigint FROM users u JOIN platform_tokens t ON t.user_id = u.id
        WHERE u.status <> 'active' AND t.status_index BETWEEN $1::bigint AND $2::bigint
      UNION ALL
      SELECT t.status_index - $1::bigint FROM organizations o JOIN platform_tokens t ON t.organization_id = o.id
        WHERE o.status <> 'active' AND t.status_index BETWEEN $1::bigint AND $2::bigint
      UNION ALL
      SELECT t.status_index - $1::bigint FROM services s JOIN platform_tokens t ON t.service_id = s.id
        WHERE s.status <> 'active' AND t.status_index BETWEEN $1::bigint AND $2::bigint
    )::int[] AS invalid`,
};

export function createStatusLists({ lookups }: Pick<Database, 'lookups'>) {
  return {
    /**
     * Places, from `first` on, of the tokens up to `last` that are revoked, or whose user, organization or service is
     * inactive; in any order, and perhaps twice. Undefined where no token reaches `first` yet.
     */
    async findInvalid(first: number, last: number): Promise<number[] | undefined> {
      const { rows } = await lookups.query<{ highest: string | null; invalid: number[] }>({
        ...findInvalid,
        values: [first, last],
      });
      const [row] = rows;
      return row?.highest != null && Number(row.highest) >= first ? row.invalid : undefined;
    },
  };
}
