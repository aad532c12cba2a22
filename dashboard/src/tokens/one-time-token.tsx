import { Alert, Button, Group, Modal, Stack, Text } from '@mantine/core';
import { createContext, type ReactNode, useCallback, useContext, useEffect, useRef, useState } from 'react';
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
  // One after the other: none takes the place of another that is being shown.
  const [secrets, setSecrets] = useState<readonly Secret[]>([]);
  const [first, ...rest] = secrets;
  const show = useCallback((secret: Secret) => setSecrets((waiting) => [...waiting, secret]), []);
  // Also where the page goes first, by a sign-out in another tab.
  useEffect(() => () => first?.forget(), [first]);
  return (
    <ShowOnceContext value={show}>
      {children}
      {first ? <OneTimeToken key={first.id} secret={first} onClose={() => setSecrets(rest)} /> : null}
    </ShowOnceContext>
  );
}

/** The one window in which a platform token is ever shown; it goes by its buttons only. */
function OneTimeToken({ secret, onClose }: { readonly secret: Secret; readonly onClose: () => void }) {
  const texts = useTexts();
  const [kept, setKept] = useState(false);
  const [asked, setAsked] = useState(false);
  useLeaveWarning(!kept);
  const keep = () => {
    setKept(true);
    setAsked(false);
  };
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
      <Stack gap="md" onCopy={keep}>
        <Alert className={classes.caution} classNames={{ message: classes.alert ?? '' }}>
          {texts.oneTimeWarning}
        </Alert>
        <Copyable secret={secret} label={texts.yourToken} copy={texts.copyToken} onCopied={keep} first />
        <Text size="sm">{texts.exchangeLead}</Text>
        <Copyable
          secret={secret}
          write={exchangeCommand}
          label={texts.exchangeLead}
          copy={texts.copyCurl}
          onCopied={keep}
        />
        {/* One button, so that it keeps the focus, and a double click comes back. */}
        <Button variant="default" onClick={() => (kept ? onClose() : setAsked(!asked))}>
          {asked ? texts.backToToken : texts.closeToken}
        </Button>
        {asked ? (
          // On a small screen it would be below the edge, and the button seem to do nothing.
          <Stack gap="xs" role="alert" ref={showWhole}>
            <Text size="sm">{texts.notCopied}</Text>
            <Button className={classes.danger} onClick={onClose}>
              {texts.closeWithoutCopying}
            </Button>
          </Stack>
        ) : null}
      </Stack>
    </Modal>
  );
}

const showWhole = (element: HTMLElement | null) => element?.scrollIntoView({ block: 'nearest' });

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
