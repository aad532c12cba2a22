import { Button } from '@mantine/core';
import { Refused } from '../api/client.ts';
import { useTexts } from '../texts/index.tsx';
import { Notice, PageNotice } from './notice.tsx';

/** Why a view cannot be shown: not for this user, not taken, or a fault of the server. */
export function Failure({
  error,
  onRetry,
  ofPage = false,
}: {
  readonly error: unknown;
  readonly onRetry: () => void;
  /** Whether there is nothing beside it. */
  readonly ofPage?: boolean;
}) {
  const texts = useTexts();
  const Message = ofPage ? PageNotice : Notice;
  const status = error instanceof Refused ? error.status : undefined;
  if (status === 403 || status === 404) {
    return (
      <Message title={texts.noPermission} role="alert">
        {texts.noPermissionText}
      </Message>
    );
  }
  const retry = (
    <Button variant="default" onClick={onRetry}>
      {texts.tryAgain}
    </Button>
  );
  return (
    <Message title={texts.failed} role="alert" action={retry}>
      {status === 400 ? texts.invalidRequest : texts.failedText}
    </Message>
  );
}
