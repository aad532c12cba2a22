import { Alert, Button, Group, Modal, Stack, Text, Textarea } from '@mantine/core';
import { notifications } from '@mantine/notifications';
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
 * @param forOthers an admin's revocation, with a reason for the audit trail
 */
export function EndTokens({
  ending,
  forOthers,
  onClose,
  onEnded,
}: {
  readonly ending: Ending;
  readonly forOthers: boolean;
  readonly onClose: () => void;
  readonly onEnded: () => void;
}) {
  const texts = useTexts();
  const { api } = useServices();
  const tokensChanged = useTokensChanged();
  const [reason, setReason] = useState('');
  const [fault, setFault] = useState<string>();
  const count = ending.kind === 'tokens' ? ending.tokens.length : 0;

  const end = useAction(async () => {
    try {
      const choice =
        ending.kind === 'tokens'
          ? { ids: ending.tokens.map(({ id }) => id) }
          : { organization_id: ending.organization.id, user_id: ending.user.id };
      const body = { ...choice, ...(reason.trim() ? { reason: reason.trim().replaceAll(/\s+/g, ' ') } : {}) };
      const { revoked } = unwrap(await api.POST('/admin/tokens/revoke', { body }));
      report(revoked);
      onEnded();
    } catch (error) {
      setFault(isPassing(error) ? texts.notDeletedNoAnswer : texts.failedText);
    } finally {
      tokensChanged();
    }
  });

  function report(revoked: number): void {
    const before = ending.kind === 'tokens' ? count - revoked : 0;
    const done = forOthers ? texts.revoked(revoked) : texts.deleted(revoked);
    notifications.show({
      title: revoked === 0 ? texts.nothingDeleted : done,
      message: before > 0 ? texts.deletedBefore(before) : '',
      closeButtonProps: { 'aria-label': texts.close },
    });
  }

  const title =
    ending.kind === 'member'
      ? texts.revokeAllTitle(ending.user.name)
      : forOthers
        ? texts.revokeTitle(count)
        : texts.deleteTitle(count);
  return (
    <Modal
      opened
      onClose={onClose}
      title={title}
      closeOnClickOutside={reason === ''}
      closeButtonProps={{ 'aria-label': texts.close }}
    >
      <Stack>
        {ending.kind === 'member' ? (
          <Text>{texts.revokeAllText(ending.user.name, ending.organization.name)}</Text>
        ) : (
          <Affected tokens={ending.tokens} />
        )}
        <Text size="sm">{texts.willStop(count === 1)}</Text>
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
          <Alert color="red" variant="outline" role="alert">
            {fault}
          </Alert>
        ) : null}
        <Group justify="flex-end">
          <Button variant="default" onClick={onClose} data-autofocus={forOthers ? undefined : true}>
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

function Affected({ tokens }: { readonly tokens: readonly Token[] }) {
  const texts = useTexts();
  const hidden = tokens.length - shownMaximum;
  return (
    <div>
      <ul className={classes.affected} aria-label={texts.willStopList}>
        {tokens.slice(0, shownMaximum).map((token) => (
          <li key={token.id}>
            <strong>{token.name}</strong>
            <Text span size="sm" c="dimmed">
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
