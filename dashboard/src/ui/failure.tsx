import { Button } from '@mantine/core';
import { Refused } from '../api/client.ts';
import { useTexts } from '../texts/index.tsx';
import { Notice } from './notice.tsx';

/** Why a view cannot be shown: not for this user, not taken, or a fault of the server. */
export function Failure({ error, onRetry }: { readonly error: unknown; readonly onRetry: () => void }) {
  const texts = useTexts();
  const status = error instanceof Refused ? error.status : undefined;
  if (status === 403 || status === 404) {
    return (
      <Notice title={texts.noPermission} role="alert">
        {texts.noPermissionText}
      </Notice>
    );
  }
  const retry = (
    <Button variant="default" onClick={onRetry}>
      {texts.tryAgain}
    </Button>
  );
  return (
    <Notice title={texts.failed} role="alert" action={retry}>
      {status === 400 ? texts.invalidRequest : texts.failedText}
    </Notice>
  );
}
