import { Button, Group, Paper, Skeleton, Stack, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import type { Token } from '../api/client.ts';
import { useServices } from '../context.ts';
import type { Membership } from '../organization.tsx';
import { useLocalization } from '../texts/index.tsx';
import { Failure } from '../ui/failure.tsx';
import { Notice } from '../ui/notice.tsx';
import { type Ending, EndTokens } from './end-tokens.tsx';
import { Filters } from './filters.tsx';
import { GenerateToken } from './generate-token.tsx';
import { isFiltered, useListState } from './list-state.ts';
import { TokenDetails } from './token-details.tsx';
import { canEnd, TokenTable } from './token-table.tsx';
import classes from './tokens.module.css';

/**
 * The list, with all that can be done in it.
 * @param ownerId whose tokens; undefined for those of every member, which only admins may see
 */
export function TokenList({
  membership,
  ownerId,
}: {
  readonly membership: Membership;
  readonly ownerId: string | undefined;
}) {
  const { texts, locale } = useLocalization();
  const { queries } = useServices();
  const [state, change] = useListState();
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const [ending, setEnding] = useState<Ending>();
  const { organization } = membership;
  const forOthers = ownerId === undefined;
  const { cursor, q, services, sort, statuses } = state;
  const userId = ownerId ?? state.userId;

  const list = useQuery(
    queries.tokens({ organizationId: organization.id, userId, q, services, statuses, sort, cursor }),
  );
  const tokens = list.data?.tokens ?? [];
  // Those that have gone, by another tab say, are selected no longer.
  const chosen = tokens.filter((token) => selected.has(token.id) && canEnd(token));
  const owners = useQuery(
    queries.membersById(
      organization.id,
      forOthers ? [...new Set(tokens.map(({ user_id }) => user_id))].sort() : [],
    ),
  );
  const member = forOthers && state.userId ? owners.data?.get(state.userId) : undefined;

  const end = (...ended: Token[]) => setEnding({ kind: 'tokens', tokens: ended });
  const clear = () => change({ q: '', services: [], statuses: [], userId: undefined });
  const total = list.data?.total ?? 0;

  return (
    <Stack gap="md">
      <Group justify="space-between" align="flex-start" className={classes.top}>
        <Text c="dimmed" maw={560}>
          {forOthers ? texts.membersTokensLead(organization.name) : texts.ownTokensLead(organization.name)}
        </Text>
        {forOthers ? null : (
          <Group gap="md">
            <Text size="sm" c="dimmed">
              {texts.inUse(membership.token_limit - membership.tokens_remaining, membership.token_limit)}
            </Text>
            <GenerateToken membership={membership} />
          </Group>
        )}
      </Group>

      <Filters state={state} change={change} organizationId={organization.id} withMembers={forOthers} />

      <Group justify="space-between" mih={36}>
        <Text size="sm" role="status">
          {chosen.length > 0
            ? texts.selected(chosen.length)
            : list.data
              ? texts.tokenCount(new Intl.NumberFormat(locale).format(total), total === 1)
              : ''}
        </Text>
        <Group gap="sm">
          {chosen.length > 0 ? (
            <>
              <Button variant="default" size="xs" onClick={() => setSelected(new Set())}>
                {texts.clearSelection}
              </Button>
              <Button size="xs" className={classes.danger} onClick={() => end(...chosen)}>
                {forOthers ? texts.revokeOne : texts.deleteOne}
              </Button>
            </>
          ) : null}
          {member && chosen.length === 0 ? (
            <Button
              size="xs"
              className={classes.danger}
              onClick={() =>
                setEnding({ kind: 'member', organization, user: { id: member.user_id, name: member.name } })
              }
            >
              {texts.revokeAll}
            </Button>
          ) : null}
        </Group>
      </Group>

      <Paper withBorder bg="var(--sheet)" className={classes.sheet}>
        {list.isPending ? (
          <Loading label={texts.loading} />
        ) : list.isError ? (
          <Failure error={list.error} onRetry={() => void list.refetch()} />
        ) : tokens.length > 0 ? (
          <TokenTable
            tokens={tokens}
            caption={forOthers ? texts.membersTokens : texts.accessTokens}
            sort={sort}
            onSort={(next) => change({ sort: next })}
            selected={selected}
            onSelect={setSelected}
            onOpen={({ id }) => change({ token: id })}
            onEnd={end}
            owners={forOthers ? (owners.data ?? new Map()) : undefined}
            forOthers={forOthers}
            busy={list.isPlaceholderData}
          />
        ) : isFiltered(state) || cursor ? (
          <Notice
            title={texts.nothingFound}
            action={
              <Button variant="default" onClick={clear}>
                {texts.clearFilters}
              </Button>
            }
          >
            {texts.nothingFoundText}
          </Notice>
        ) : (
          <Notice title={forOthers ? texts.noTokensOfMembers : texts.noTokens}>
            {forOthers ? texts.noTokensOfMembersText : texts.noTokensText}
          </Notice>
        )}
      </Paper>

      {list.data && (list.data.next || cursor) ? (
        <Group component="nav" justify="center" aria-label={texts.pages}>
          <Button variant="default" disabled={!cursor} onClick={() => change({ cursor: list.data.previous })}>
            {list.data.previous ? texts.previousPage : texts.firstPage}
          </Button>
          <Button
            variant="default"
            disabled={!list.data.next}
            onClick={() => change({ cursor: list.data.next })}
          >
            {texts.nextPage}
          </Button>
        </Group>
      ) : null}

      {state.token ? <TokenDetails id={state.token} onClose={() => change({ token: undefined })} /> : null}
      {ending ? (
        <EndTokens
          ending={ending}
          forOthers={forOthers}
          onClose={() => setEnding(undefined)}
          onEnded={() => {
            setEnding(undefined);
            setSelected(new Set());
          }}
        />
      ) : null}
    </Stack>
  );
}

function Loading({ label }: { readonly label: string }) {
  return (
    <Stack p="md" gap="sm" role="status" aria-label={label}>
      {[0, 1, 2, 3].map((row) => (
        <Skeleton key={row} height={32} />
      ))}
    </Stack>
  );
}
