import { Alert, Button, Group, Modal, Stack, Text, Textarea } from '@mantine/core';
import { notifications } from '@mantine/notifications';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { isPassing, type Token, unwrap } from '../api/client.ts';
import { useServices } from '../context.ts';
import { useTexts } from '../texts/index.tsx';
import { Moment } from '../ui/moment.tsx';
import { useAction } from '../ui/use-action.ts';
import classes from './tokens.module.css';
import { useTokensChanged } from './use-tokens-changed.ts';

/** What a dialog asks about: these tokens, or all of one member. */
export type Ending =
  | { readonly kind: 'tokens'; readonly tokens: readonly Token[] }
  | {
      readonly kind: 'member';
      readonly organization: { readonly id: string; readonly name: string };
      readonly user: { readonly id: string; readonly name: string };
    };

const shownMaximum = 8;
const reasonMaximum = 500;

/**
 * Asks once, naming what will stop working, and reports what happened.
 * @param ownerName whose they are, where it is an admin's revocation, which has a reason for the audit trail
 */
export function EndTokens({
  ending,
  ownerName,
  onClose,
  onEnded,
}: {
  readonly ending: Ending;
  readonly ownerName: ((userId: string) => string) | undefined;
  readonly onClose: () => void;
  readonly onEnded: () => void;
}) {
  const texts = useTexts();
  const { api, queries } = useServices();
  const queryClient = useQueryClient();
  const tokensChanged = useTokensChanged();
  const [reason, setReason] = useState('');
  const [fault, setFault] = useState<string>();
  const affected = useAffected(ending);
  const forOthers = ownerName !== undefined;

  const end = useAction(async () => {
    try {
      const choice =
        ending.kind === 'tokens'
          ? { ids: ending.tokens.map(({ id }) => id) }
          : { organization_id: ending.organization.id, user_id: ending.user.id };
      const body = { ...choice, ...(reason.trim() ? { reason: reason.trim().replaceAll(/\s+/g, ' ') } : {}) };
      const { revoked, not_found: unseen } = unwrap(await api.POST('/admin/tokens/revoke', { body }));
      const isRefused = revoked === 0 && (unseen.length > 0 || (await mayNotRevoke()));
      if (isRefused) return setFault(texts.noPermissionText);
      report(revoked, unseen.length);
      onEnded();
    } catch (error) {
      setFault(isPassing(error) ? texts.notDeletedNoAnswer : texts.failedText);
    } finally {
      tokensChanged();
    }
  });

  /** Nothing was revoked of a member: because nothing was left, or because the user is an admin no longer. */
  async function mayNotRevoke(): Promise<boolean> {
    if (ending.kind === 'tokens') return false;
    const { memberships } = await queryClient.fetchQuery({ ...queries.me(), staleTime: 0 });
    const { id } = ending.organization;
    return !memberships.some(({ organization, role }) => organization.id === id && role === 'admin');
  }

  function report(revoked: number, unseen: number): void {
    const before = ending.kind === 'tokens' ? ending.tokens.length - revoked - unseen : 0;
    const done = forOthers ? texts.revoked(revoked) : texts.deleted(revoked);
    const nothing = forOthers ? texts.nothingRevoked : texts.nothingDeleted;
    const beforeText = forOthers ? texts.revokedBefore : texts.deletedBefore;
    notifications.show({
      title: revoked === 0 ? nothing : done,
      message: [before > 0 ? beforeText(before) : '', unseen > 0 ? texts.notSeen(unseen) : '']
        .join(' ')
        .trim(),
      closeButtonProps: { 'aria-label': texts.close },
    });
  }

  // While the answer is awaited the window stays: it is what the answer is told in.
  const close = () => {
    if (!end.pending) onClose();
  };
  const title =
    ending.kind === 'member'
      ? texts.revokeAllTitle(ending.user.name)
      : forOthers
        ? texts.revokeTitle(ending.tokens.length)
        : texts.deleteTitle(ending.tokens.length);
  return (
    <Modal
      opened
      onClose={close}
      title={title}
      closeOnClickOutside={reason === ''}
      closeButtonProps={{ 'aria-label': texts.close }}
    >
      <Stack>
        {ending.kind === 'member' ? (
          <Text>
            {texts.revokeAllText(ending.user.name, ending.organization.name)}{' '}
            {affected.total === undefined ? (
              ''
            ) : (
              <strong>{texts.tokenCount(String(affected.total), affected.total === 1)}</strong>
            )}
          </Text>
        ) : null}
        <Affected
          tokens={affected.tokens}
          total={affected.total ?? 0}
          ownerName={ending.kind === 'tokens' ? ownerName : undefined}
        />
        <Text size="sm">{texts.willStop(affected.total === 1)}</Text>
        {forOthers ? (
          <Textarea
            label={texts.reason}
            description={texts.reasonHelp}
            value={reason}
            onChange={(event) => setReason(event.currentTarget.value)}
            maxLength={reasonMaximum}
            autosize
            minRows={2}
            data-autofocus
          />
        ) : null}
        {fault ? (
          <Alert className={classes.fault} classNames={{ message: classes.alert ?? '' }} role="alert">
            {fault}
          </Alert>
        ) : null}
        <Group justify="flex-end">
          <Button
            variant="default"
            disabled={end.pending}
            onClick={close}
            data-autofocus={forOthers ? undefined : true}
          >
            {texts.cancel}
          </Button>
          <Button className={classes.danger} loading={end.pending} onClick={() => void end.run()}>
            {forOthers ? texts.revokeOne : texts.deleteOne}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}

/** The tokens that are asked about; of a whole member, the first of them and how many there are. */
function useAffected(ending: Ending): { tokens: readonly Token[]; total: number | undefined } {
  const { queries } = useServices();
  const ofMember = useQuery({
    ...queries.tokens({
      organizationId: ending.kind === 'member' ? ending.organization.id : '',
      userId: ending.kind === 'member' ? ending.user.id : undefined,
      q: '',
      services: [],
      statuses: [],
      sort: '-last_used_at',
      cursor: undefined,
    }),
    enabled: ending.kind === 'member',
  });
  if (ending.kind === 'tokens') return { tokens: ending.tokens, total: ending.tokens.length };
  const answer = ofMember.isPlaceholderData ? undefined : ofMember.data;
  return { tokens: answer?.tokens ?? [], total: answer?.total };
}

function Affected({
  tokens,
  total,
  ownerName,
}: {
  readonly tokens: readonly Token[];
  readonly total: number;
  readonly ownerName: ((userId: string) => string) | undefined;
}) {
  const texts = useTexts();
  const hidden = total - Math.min(tokens.length, shownMaximum);
  if (tokens.length === 0) return null;
  return (
    <div>
      <ul className={classes.affected} aria-label={texts.willStopList}>
        {tokens.slice(0, shownMaximum).map((token) => (
          <li key={token.id}>
            <strong>{token.name}</strong>
            <Text span size="sm" c="dimmed">
              {ownerName ? `${ownerName(token.user_id)} · ` : ''}
              {token.service.name} ·{' '}
              {token.last_used_at ? (
                <>
                  {texts.lastUsed}: <Moment time={token.last_used_at} />
                </>
              ) : (
                texts.neverUsed
              )}
            </Text>
          </li>
        ))}
      </ul>
      {hidden > 0 ? <Text size="sm">{texts.andMore(hidden)}</Text> : null}
    </div>
  );
}
