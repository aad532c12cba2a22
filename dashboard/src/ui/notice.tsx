import { Stack, Text, Title } from '@mantine/core';
import type { ReactNode } from 'react';

/** What a view says where it has nothing else to show, and the way on. */
export function Notice({
  title,
  children,
  action,
  role,
}: {
  readonly title: string;
  readonly children: ReactNode;
  readonly action?: ReactNode;
  readonly role?: 'alert' | 'status';
}) {
  return (
    <Stack align="center" gap="sm" py={48} px="md" ta="center" role={role}>
      <Title order={2} size="h4">
        {title}
      </Title>
      <Text c="dimmed" maw={440}>
        {children}
      </Text>
      {action}
    </Stack>
  );
}
