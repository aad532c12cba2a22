import { Paper, Text } from '@mantine/core';
import type { ReactNode } from 'react';
import { useTexts } from '../texts/index.tsx';
import classes from './sole-page.module.css';

/** A page beside the others, with nothing but a notice: it looks like the server's own. */
export function SolePage({ children }: { readonly children: ReactNode }) {
  const texts = useTexts();
  return (
    <main className={classes.page}>
      <Paper withBorder shadow="sm" className={classes.sheet}>
        <Text size="sm" c="dimmed">
          {texts.product}
        </Text>
        {children}
      </Paper>
    </main>
  );
}
