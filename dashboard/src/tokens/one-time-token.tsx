import { Alert, Button, Group, Modal, Stack, Text } from '@mantine/core';
import { createContext, type ReactNode, useContext, useEffect, useRef, useState } from 'react';
import { useLeaveWarning } from '../context.ts';
import { issuer } from '../settings.ts';
import { useTexts } from '../texts/index.tsx';
import { type Secret, SecretText } from './secret.tsx';
import classes from './tokens.module.css';

const itself = (token: string) => token;
const exchangeCommand = (token: string) =>
  `curl -d grant_type=urn:ietf:params:oauth:grant-type:token-exchange -d subject_token=${token} ${issuer}/oauth/token`;

const ShowOnceContext = createContext<(secret: Secret) => void>(() => {});
export const useShowOnce = () => useContext(ShowOnceContext);

/** Above the views: the token is still there when the view behind its window changes, by the back button say. */
export function OneTimeTokenProvider({ children }: { readonly children: ReactNode }) {
  const [secret, setSecret] = useState<Secret>();
  // Also where the page goes first, by a sign-out in another tab.
  useEffect(() => () => secret?.forget(), [secret]);
  return (
    <ShowOnceContext value={setSecret}>
      {children}
      {secret ? <OneTimeToken secret={secret} onClose={() => setSecret(undefined)} /> : null}
    </ShowOnceContext>
  );
}

/** The one window in which a platform token is ever shown; it goes by its button only. */
function OneTimeToken({ secret, onClose }: { readonly secret: Secret; readonly onClose: () => void }) {
  const texts = useTexts();
  const [kept, setKept] = useState(false);
  const [asked, setAsked] = useState(false);
  useLeaveWarning(!kept);
  return (
    <Modal
      opened
      onClose={() => {}}
      title={texts.oneTimeTitle}
      size="lg"
      withCloseButton={false}
      closeOnClickOutside={false}
      closeOnEscape={false}
    >
      {/* A text that was copied by hand is kept as well. */}
      <Stack gap="md" onCopy={() => setKept(true)}>
        <Alert color="yellow" variant="outline" classNames={{ message: classes.warning ?? '' }}>
          {texts.oneTimeWarning}
        </Alert>
        <Copyable
          secret={secret}
          label={texts.yourToken}
          copy={texts.copyToken}
          onCopied={() => setKept(true)}
          first
        />
        <Text size="sm">{texts.exchangeLead}</Text>
        <Copyable
          secret={secret}
          write={exchangeCommand}
          label={texts.exchangeLead}
          copy={texts.copyCurl}
          onCopied={() => setKept(true)}
        />
        <Button variant="default" onClick={() => (kept || asked ? onClose() : setAsked(true))}>
          {asked && !kept ? texts.closeTokenAnyway : texts.closeToken}
        </Button>
      </Stack>
    </Modal>
  );
}

function Copyable({
  secret,
  write = itself,
  label,
  copy,
  onCopied,
  first = false,
}: {
  readonly secret: Secret;
  readonly write?: (value: string) => string;
  readonly label: string;
  readonly copy: string;
  readonly onCopied: () => void;
  readonly first?: boolean;
}) {
  const texts = useTexts();
  const field = useRef<HTMLTextAreaElement>(null);
  const [outcome, setOutcome] = useState<'copied' | 'by-hand'>();

  async function run() {
    try {
      await navigator.clipboard.writeText(write(secret.read()));
      setOutcome('copied');
      onCopied();
    } catch {
      // Without https, or without the user's leave, there is no clipboard.
      field.current?.select();
      setOutcome('by-hand');
    }
  }

  return (
    <Stack gap="xs">
      <SecretText secret={secret} write={write} label={label} rows={first ? 2 : 4} field={field} />
      <Group gap="sm">
        <Button
          onClick={() => void run()}
          variant={first ? 'filled' : 'default'}
          data-autofocus={first || undefined}
        >
          {copy}
        </Button>
        <Text size="sm" role="status" className={outcome === 'copied' ? classes.good : undefined}>
          {outcome === 'copied' ? `✓ ${texts.copied}` : outcome === 'by-hand' ? texts.copyByHand : ''}
        </Text>
      </Group>
    </Stack>
  );
}
