import { Title } from '@mantine/core';
import { useCurrent } from '../organization.tsx';
import { useTexts } from '../texts/index.tsx';
import { Notice } from '../ui/notice.tsx';
import { useTitle } from '../ui/use-title.ts';
import { TokenList } from './token-list.tsx';

/** The user's own tokens in the current organization. */
export function OwnTokens() {
  const texts = useTexts();
  useTitle(texts.accessTokens);
  const { me, membership } = useCurrent();
  return membership ? <TokenList membership={membership} ownerId={me.id} /> : null;
}

/** Every member's tokens, for an organization's admins. */
export function MemberTokens() {
  const texts = useTexts();
  useTitle(texts.membersTokens);
  const { membership } = useCurrent();
  if (membership?.role !== 'admin') {
    return (
      <Notice title={texts.noPermission} role="alert">
        {texts.noPermissionText}
      </Notice>
    );
  }
  return (
    <>
      <Title order={1} size="h2" mb="md">
        {texts.membersTokens}
      </Title>
      <TokenList membership={membership} ownerId={undefined} />
    </>
  );
}
