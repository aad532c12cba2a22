import { Stack, Text, Title } from '@mantine/core';
import type { ReactNode } from 'react';
import { useTitle } from './use-title.ts';

interface NoticeProps {
  readonly title: string;
  readonly children: ReactNode;
  readonly action?: ReactNode;
  readonly role?: 'alert' | 'status';
  /** Of its heading, in the view that it stands in. */
  readonly level?: 1 | 2;
}

/** What a view says where it has nothing else to show, and the way on. */
export function Notice({ title, children, action, role, level = 2 }: NoticeProps) {
  return (
    <Stack align="center" gap="sm" py={48} px="md" ta="center" role={role} className="balanced">
      <Title order={level} size="h4">
        {title}
      </Title>
      <Text c="dimmed" maw={440}>
        {children}
      </Text>
      {action}
    </Stack>
  );
}

/** …where that is the whole view, which has its name from it. */
export function PageNotice({ level = 1, ...notice }: NoticeProps) {
  useTitle(notice.title);
  return <Notice level={level} {...notice} />;
}
