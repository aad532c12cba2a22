import { setTimeout } from 'node:timers/promises';
import type pg from 'pg';
import type { Ledger } from './load.ts';

export interface Verdict {
  /** What was acknowledged and is not so. */
  readonly lost: string[];
  /** Tokens that hold and that nobody was shown, though their caller was told that there is none. */
  readonly orphans: string[];
  /** Tokens that hold and whose answer went down with its instance: the trail has them, with the request's id. */
  readonly unseen: number;
}

type Query = (sql: string, values?: unknown[]) => Promise<pg.QueryResult>;

const settlingMs = 15_000;

/** Holds what was acknowledged against the rows, and the rows against what was acknowledged. */
export async function verify(query: Query, ledger: Ledger): Promise<Verdict> {
  const lost: string[] = [];
  const created = [...ledger.created.keys()];
  const revoked = [...ledger.revoked];
  const { rows } = await query(
    `SELECT t.id, t.revoked_at IS NOT NULL AS revoked, e.actions
     FROM platform_tokens t
     LEFT JOIN LATERAL (SELECT array_agg(action) AS actions FROM audit_trail WHERE token_id = t.id
       AND action IN ('token.created', 'token.revoked')) e ON true
     WHERE t.id = ANY($1::uuid[])`,
    [created],
  );
  const found = new Map(rows.map((row) => [row.id, row]));
  for (const id of created) {
    const row = found.get(id);
    if (!row) lost.push(`token ${id} is not there`);
    else if (!row.actions?.includes('token.created')) lost.push(`the creation of ${id} is not in the trail`);
  }
  for (const id of revoked) {
    const row = found.get(id);
    if (row && !row.revoked) lost.push(`token ${id} is not revoked`);
    else if (!row?.actions?.includes('token.revoked'))
      lost.push(`the revocation of ${id} is not in the trail`);
  }

  // What is being answered just now, or is undone behind its answer, takes a moment.
  let unknown: { id: string; name: string }[] = [];
  for (const until = Date.now() + settlingMs; Date.now() < until; await setTimeout(500)) {
    const holding = await query(
      "SELECT id, name FROM platform_tokens WHERE name LIKE 'load-%' AND revoked_at IS NULL",
    );
    unknown = holding.rows.filter(({ id }) => !ledger.created.has(id));
    if (unknown.every(({ name }) => ledger.cutCreations.has(name))) break;
  }
  const orphans = unknown.filter(({ name }) => !ledger.cutCreations.has(name));
  return {
    lost,
    orphans: orphans.map(({ id }) => `token ${id}`),
    unseen: unknown.length - orphans.length,
  };
}
