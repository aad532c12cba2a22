import { Button, Drawer, Loader, Stack, Table, Text, Timeline, Title } from '@mantine/core';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { Refused, type Token } from '../api/client.ts';
import { useServices } from '../context.ts';
import { useCurrent } from '../organization.tsx';
import { useTexts } from '../texts/index.tsx';
import { Failure } from '../ui/failure.tsx';
import { Moment } from '../ui/moment.tsx';
import { useActorName } from './members.ts';
import { EndsSoon, Status } from './status.tsx';
import classes from './tokens.module.css';

/** One token: all that is known about it, with exact times, and what happened to it. */
export function TokenDetails({ id, onClose }: { readonly id: string; readonly onClose: () => void }) {
  const texts = useTexts();
  const { queries } = useServices();
  const { membership } = useCurrent();
  const token = useQuery(queries.token(id));
  // The address may name a token of another organization than the one that is shown.
  const isElsewhere = token.data !== undefined && token.data.organization_id !== membership?.organization.id;
  const isGone = isElsewhere || (token.error instanceof Refused && token.error.status === 404);
  return (
    <Drawer
      opened
      onClose={onClose}
      title={isGone ? texts.tokenDetails : (token.data?.name ?? texts.tokenDetails)}
      size="lg"
      closeButtonProps={{ 'aria-label': texts.close }}
    >
      {isGone ? (
        <Text role="alert">{texts.tokenGone}</Text>
      ) : token.data ? (
        <Stack gap="lg">
          <Facts token={token.data} />
          <Trail token={token.data} />
        </Stack>
      ) : token.isError ? (
        <Failure error={token.error} onRetry={() => void token.refetch()} />
      ) : (
        <Loader aria-label={texts.loading} role="status" />
      )}
    </Drawer>
  );
}

function Facts({ token }: { readonly token: Token }) {
  const texts = useTexts();
  const owner = { type: 'user', id: token.user_id } as const;
  const nameOf = useActorName(token.organization_id, [owner]);
  const rows: [string, React.ReactNode][] = [
    [texts.status, <Status key="status" token={token} />],
    [texts.service, token.service.name],
    [texts.owner, nameOf(owner)],
    [texts.mayDo, token.scope],
    [texts.hint, <code key="hint">{token.hint}…</code>],
    [texts.created, <Moment key="created" time={token.created_at} withUtc />],
    [
      texts.expires,
      <div key="expires">
        <Moment time={token.expires_at} withUtc />
        <EndsSoon token={token} />
      </div>,
    ],
    [
      texts.lastUsed,
      token.last_used_at ? (
        <div key="used">
          <Moment time={token.last_used_at} withUtc />
          {token.last_used_ip ? <div>{texts.from(token.last_used_ip)}</div> : null}
        </div>
      ) : (
        texts.never
      ),
    ],
  ];
  if (token.revoked_at) {
    rows.push([texts.revokedAt, <Moment key="revoked" time={token.revoked_at} withUtc />]);
  }
  return (
    <Table variant="vertical" className={classes.facts}>
      <Table.Tbody>
        {rows.map(([label, value]) => (
          <Table.Tr key={label}>
            <Table.Th>{label}</Table.Th>
            <Table.Td>{value}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

/** Created, exchanged (when, from where), revoked, and by whom; the newest first. */
function Trail({ token }: { readonly token: Token }) {
  const texts = useTexts();
  const { queries } = useServices();
  const trail = useInfiniteQuery(queries.trail(token.id));
  const events = trail.data?.pages.flatMap(({ data }) => data) ?? [];
  const nameOf = useActorName(
    token.organization_id,
    events.map(({ actor }) => actor),
  );
  return (
    <section aria-labelledby="trail">
      <Title order={3} size="h5" mb="sm" id="trail">
        {texts.trail}
      </Title>
      {trail.isError && !trail.data ? (
        <Failure error={trail.error} onRetry={() => void trail.refetch()} />
      ) : null}
      {trail.isPending ? <Loader size="sm" aria-label={texts.loading} role="status" /> : null}
      {trail.data && events.length === 0 ? <Text c="dimmed">{texts.trailEmpty}</Text> : null}
      <Timeline bulletSize={12} lineWidth={1} active={events.length}>
        {events.map((event) => (
          <Timeline.Item key={event.id} title={texts.actionNames[event.action] ?? event.action}>
            <Text size="sm">
              <Moment time={event.at} withUtc />
            </Text>
            <Text size="sm" c="dimmed" className={classes.wrap}>
              {[
                event.count > 1 ? texts.times(event.count) : '',
                event.actor.type === 'token' ? '' : texts.by(nameOf(event.actor)),
                event.ip ? texts.from(event.ip) : '',
                event.actor.type === 'token' ? (event.user_agent ?? '') : '',
              ]
                .filter(Boolean)
                .join(' · ')}
            </Text>
            {event.reason ? (
              <Text size="sm" className={classes.wrap}>
                {texts.reason}: {event.reason}
              </Text>
            ) : null}
          </Timeline.Item>
        ))}
      </Timeline>
      {trail.hasNextPage ? (
        <Button
          variant="default"
          loading={trail.isFetchingNextPage}
          onClick={() => void trail.fetchNextPage()}
        >
          {texts.showMore}
        </Button>
      ) : null}
    </section>
  );
}
