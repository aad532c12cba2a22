import { Title } from '@mantine/core';
import { type Membership, useCurrent } from '../organization.tsx';
import { useTexts } from '../texts/index.tsx';
import { PageNotice } from '../ui/notice.tsx';
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
  const { membership } = useCurrent();
  if (membership?.role === 'admin') return <AllTokens membership={membership} />;
  return (
    <PageNotice title={texts.noPermission} role="alert">
      {texts.noPermissionText}
    </PageNotice>
  );
}

function AllTokens({ membership }: { readonly membership: Membership }) {
  const texts = useTexts();
  useTitle(texts.membersTokens);
  return (
    <>
      <Title order={1} size="h2" mb="md">
        {texts.membersTokens}
      </Title>
      <TokenList membership={membership} ownerId={undefined} />
    </>
  );
}
