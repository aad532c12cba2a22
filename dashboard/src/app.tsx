import { Button, Modal, Text } from '@mantine/core';
import { useServices, useSessionState } from './context.ts';
import { Shell } from './shell/shell.tsx';
import { useTexts } from './texts/index.tsx';
import { PageNotice } from './ui/notice.tsx';
import { SolePage } from './ui/sole-page.tsx';
import { Waiting } from './ui/waiting.tsx';

/** Who is there decides what is shown. */
export function App() {
  const state = useSessionState();
  if (state === 'signed-out') return <SignedOut />;
  if (state === 'failed') return <SignInFailed />;
  if (state === 'starting') return <Waiting />;
  return (
    <>
      <Shell />
      <SessionExpired opened={state === 'expired'} />
    </>
  );
}

function SignedOut() {
  const texts = useTexts();
  const { session } = useServices();
  return (
    <SolePage>
      <PageNotice
        title={texts.signedOutTitle}
        action={<Button onClick={() => void session.signIn()}>{texts.signIn}</Button>}
      >
        {texts.signedOutText}
      </PageNotice>
    </SolePage>
  );
}

function SignInFailed() {
  const texts = useTexts();
  const { session } = useServices();
  return (
    <SolePage>
      <PageNotice
        title={texts.signInFailed}
        role="alert"
        action={<Button onClick={() => void session.start()}>{texts.tryAgain}</Button>}
      >
        {texts.signInFailedText}
      </PageNotice>
    </SolePage>
  );
}

/** Over the page, which stays as it is: with what was typed, and with a token that is being shown. */
function SessionExpired({ opened }: { readonly opened: boolean }) {
  const texts = useTexts();
  const { session } = useServices();
  async function signIn() {
    if (!(await session.signInByWindow())) await session.signIn();
  }
  return (
    <Modal
      opened={opened}
      onClose={() => {}}
      title={texts.expiredTitle}
      withCloseButton={false}
      closeOnClickOutside={false}
      closeOnEscape={false}
      zIndex={400}
    >
      <Text mb="md">{texts.expiredText}</Text>
      <Button fullWidth data-autofocus onClick={() => void signIn()}>
        {texts.signInAgain}
      </Button>
    </Modal>
  );
}
