import { ActionIcon, Checkbox, Table, Text, UnstyledButton } from '@mantine/core';
import type { Token } from '../api/client.ts';
import type { TokenSort } from '../api/queries.ts';
import { useTexts } from '../texts/index.tsx';
import { Moment } from '../ui/moment.tsx';
import { EndsSoon, Status } from './status.tsx';
import classes from './tokens.module.css';

export interface TokenTableProps {
  readonly tokens: readonly Token[];
  readonly caption: string;
  readonly sort: TokenSort;
  readonly onSort: (sort: TokenSort) => void;
  readonly selected: ReadonlySet<string>;
  readonly onSelect: (ids: ReadonlySet<string>) => void;
  readonly onOpen: (token: Token) => void;
  readonly onEnd: (token: Token) => void;
  /** With whose they are: an admin's list. */
  readonly ownerName?: ((userId: string) => string) | undefined;
  readonly forOthers: boolean;
  readonly busy: boolean;
}

export const canEnd = ({ status }: Token) => status !== 'revoked';

/** A table on wide screens, a list of cards on phones: the same elements. */
export function TokenTable(props: TokenTableProps) {
  const { tokens, caption, selected, onSelect, onOpen, onEnd, ownerName, forOthers, busy } = props;
  const texts = useTexts();
  const selectable = tokens.filter(canEnd);
  const chosen = selectable.filter(({ id }) => selected.has(id)).length;

  function toggle(id: string) {
    const next = new Set(selected);
    if (!next.delete(id)) next.add(id);
    onSelect(next);
  }

  return (
    <Table
      data-owners={ownerName ? true : undefined}
      className={classes.table}
      verticalSpacing="sm"
      aria-busy={busy}
      role="table"
    >
      <caption className="visually-hidden">{caption}</caption>
      <Table.Thead role="rowgroup">
        <Table.Tr role="row">
          <Table.Th role="columnheader" className={classes.all} data-label={texts.selectAll}>
            <Checkbox
              aria-label={texts.selectAll}
              checked={chosen > 0 && chosen === selectable.length}
              indeterminate={chosen > 0 && chosen < selectable.length}
              disabled={selectable.length === 0}
              onChange={() =>
                onSelect(new Set(chosen === selectable.length ? [] : selectable.map(({ id }) => id)))
              }
            />
          </Table.Th>
          <SortHeader {...props} label={texts.name} ascending="name" descending="-name" />
          {ownerName ? <Table.Th role="columnheader">{texts.member}</Table.Th> : null}
          <Table.Th role="columnheader">{texts.service}</Table.Th>
          <Table.Th role="columnheader" className={classes.hint}>
            {texts.hint}
          </Table.Th>
          <SortHeader
            {...props}
            label={texts.created}
            ascending="created_at"
            descending="-created_at"
            first="-created_at"
          />
          <SortHeader {...props} label={texts.expires} ascending="expires_at" descending="-expires_at" />
          <SortHeader
            {...props}
            label={texts.lastUsed}
            ascending="last_used_at"
            descending="-last_used_at"
            first="-last_used_at"
          />
          <Table.Th role="columnheader">{texts.status}</Table.Th>
          <Table.Th role="columnheader">
            <span className="visually-hidden">{texts.actions}</span>
          </Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody role="rowgroup">
        {tokens.map((token) => (
          <Table.Tr key={token.id} role="row" data-selected={selected.has(token.id) || undefined}>
            <Table.Td role="cell" className={classes.pick}>
              <Checkbox
                aria-label={texts.select(token.name)}
                checked={selected.has(token.id)}
                disabled={!canEnd(token)}
                onChange={() => toggle(token.id)}
              />
            </Table.Td>
            <Table.Td role="cell" className={classes.title}>
              <UnstyledButton className={classes.name} onClick={() => onOpen(token)}>
                {token.name}
              </UnstyledButton>
            </Table.Td>
            {ownerName ? (
              <Cell label={texts.member}>
                <Text size="sm" className={classes.member}>
                  {ownerName(token.user_id)}
                </Text>
              </Cell>
            ) : null}
            <Cell label={texts.service}>{token.service.name}</Cell>
            <Cell label={texts.hint} className={classes.hint}>
              <code>{token.hint}…</code>
            </Cell>
            <Cell label={texts.created}>
              <Moment time={token.created_at} precision="day" />
            </Cell>
            <Cell label={texts.expires}>
              <Moment time={token.expires_at} precision="day" />
              <EndsSoon token={token} />
            </Cell>
            <Cell label={texts.lastUsed}>
              {token.last_used_at ? (
                <>
                  <Moment time={token.last_used_at} />
                  {token.last_used_ip ? (
                    <Text size="xs" c="dimmed" className={classes.address}>
                      {texts.from(token.last_used_ip)}
                    </Text>
                  ) : null}
                </>
              ) : (
                texts.never
              )}
            </Cell>
            <Cell label={texts.status}>
              <Status token={token} />
            </Cell>
            <Table.Td role="cell" className={classes.act}>
              {canEnd(token) ? (
                <ActionIcon
                  variant="subtle"
                  size="lg"
                  className={classes.end}
                  aria-label={forOthers ? texts.revokeToken(token.name) : texts.deleteToken(token.name)}
                  onClick={() => onEnd(token)}
                >
                  <BinIcon />
                </ActionIcon>
              ) : null}
            </Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

function Cell({
  label,
  className,
  children,
}: {
  readonly label: string;
  readonly className?: string | undefined;
  readonly children: React.ReactNode;
}) {
  return (
    <Table.Td role="cell" className={className}>
      {/* Shown on phones, where there are no columns; there for the eye only. */}
      <span aria-hidden className={classes.label}>
        {label}
      </span>
      <div>{children}</div>
    </Table.Td>
  );
}

function SortHeader({
  label,
  ascending,
  descending,
  first = ascending,
  sort,
  onSort,
}: Pick<TokenTableProps, 'sort' | 'onSort'> & {
  readonly label: string;
  readonly ascending: TokenSort;
  readonly descending: TokenSort;
  /** The order of the first click. */
  readonly first?: TokenSort;
}) {
  const second = first === ascending ? descending : ascending;
  const direction = sort === ascending ? 'ascending' : sort === descending ? 'descending' : undefined;
  return (
    <Table.Th role="columnheader" aria-sort={direction}>
      <UnstyledButton className={classes.sort} onClick={() => onSort(sort === first ? second : first)}>
        {label}
        <span aria-hidden>{direction === 'ascending' ? ' ↑' : direction === 'descending' ? ' ↓' : ''}</span>
      </UnstyledButton>
    </Table.Th>
  );
}

function BinIcon() {
  return (
    <svg
      viewBox="0 0 24 24"
      width="18"
      height="18"
      fill="none"
      stroke="currentColor"
      strokeWidth="2"
      aria-hidden="true"
    >
      <path
        d="M4 7h16M10 11v6M14 11v6M6 7l1 13h10l1-13M9 7V4h6v3"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}
