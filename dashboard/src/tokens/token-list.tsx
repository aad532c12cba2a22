import { Button, Group, Paper, Skeleton, Stack, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { Refused, type Token } from '../api/client.ts';
import { useServices } from '../context.ts';
import type { Membership } from '../organization.tsx';
import type { HowToChange } from '../search.ts';
import { useLocalization } from '../texts/index.tsx';
import { Failure } from '../ui/failure.tsx';
import { Notice } from '../ui/notice.tsx';
import { type Ending, EndTokens } from './end-tokens.tsx';
import { Filters } from './filters.tsx';
import { GenerateToken } from './generate-token.tsx';
import { isFiltered, type ListState, useListState } from './list-state.ts';
import { useMembers } from './members.ts';
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
  const owners = useMembers(
    organization.id,
    [...tokens.map(({ user_id }) => user_id), ...(state.userId ? [state.userId] : [])],
    forOthers,
  );
  const ownerName = forOthers ? (id: string) => owners.name(id) : undefined;
  const member = forOthers && state.userId ? owners.find(state.userId) : undefined;

  /** Another page or another list: what was selected is not on it. */
  function show(changed: Partial<ListState>, how?: HowToChange) {
    setSelected(new Set());
    change(changed, how);
  }

  // A page that the server does not know any more, from an old address: the first one instead.
  const isLost = cursor !== undefined && list.error instanceof Refused && list.error.status === 400;
  useEffect(() => {
    if (isLost) change({ cursor: undefined }, { replace: true });
  });

  const end = (...ended: Token[]) => setEnding({ kind: 'tokens', tokens: ended });
  const clear = () => show({ q: '', services: [], statuses: [], userId: undefined });
  const total = list.data?.total ?? 0;
  const caption = forOthers ? texts.membersTokens : texts.accessTokens;

  return (
    <Stack gap="md">
      <Group justify="space-between" align="flex-start" className={classes.top}>
        <Text c="dimmed" maw={560} className={classes.lead}>
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

      <Filters state={state} change={show} organizationId={organization.id} withMembers={forOthers} />

      <Stack component="section" gap="md" tabIndex={-1} aria-label={caption}>
        <Group justify="space-between" mih={36}>
          <Text size="sm" role="status">
            {chosen.length > 0
              ? texts.selected(chosen.length)
              : list.isPlaceholderData
                ? texts.updating
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
            {isFiltered(state) && tokens.length > 0 && chosen.length === 0 ? (
              <Button variant="default" size="xs" onClick={clear}>
                {texts.clearFilters}
              </Button>
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

        {list.data && list.isError ? (
          <Text size="sm" role="alert" className={classes.soon}>
            {texts.outOfDate}
          </Text>
        ) : null}

        <Paper withBorder className={classes.sheet}>
          {!list.data && list.isError && !isLost ? (
            <Failure error={list.error} onRetry={() => void list.refetch()} />
          ) : !list.data ? (
            <Loading label={texts.loading} />
          ) : tokens.length > 0 ? (
            <TokenTable
              tokens={tokens}
              caption={caption}
              sort={sort}
              onSort={(next) => show({ sort: next })}
              selected={selected}
              onSelect={setSelected}
              onOpen={({ id }) => change({ token: id })}
              onEnd={end}
              ownerName={ownerName}
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
            <Button variant="default" disabled={!cursor} onClick={() => show({ cursor: list.data.previous })}>
              {cursor && !list.data.previous ? texts.firstPage : texts.previousPage}
            </Button>
            <Button
              variant="default"
              disabled={!list.data.next}
              onClick={() => show({ cursor: list.data.next ?? undefined })}
            >
              {texts.nextPage}
            </Button>
          </Group>
        ) : null}
      </Stack>

      {state.token ? (
        <TokenDetails id={state.token} onClose={() => change({ token: undefined }, { replace: true })} />
      ) : null}
      {ending ? (
        <EndTokens
          ending={ending}
          ownerName={ownerName}
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
