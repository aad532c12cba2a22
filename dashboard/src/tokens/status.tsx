import { Badge } from '@mantine/core';
import type { Token } from '../api/client.ts';
import { useTexts } from '../texts/index.tsx';
import classes from './tokens.module.css';

const warnDays = 30;

/** Whole days until it ends, where that is soon; undefined for what has ended already. */
export function endsSoon({ status, expires_at }: Token, now = Date.now()): number | undefined {
  if (status !== 'active') return undefined;
  const days = Math.floor((Date.parse(expires_at) - now) / 86_400_000);
  return days < warnDays ? days : undefined;
}

export function Status({ token }: { readonly token: Token }) {
  const texts = useTexts();
  return (
    <Badge variant="outline" tt="none" className={`${classes.badge} ${classes[token.status]}`}>
      {texts.statuses[token.status]}
    </Badge>
  );
}

export function EndsSoon({ token }: { readonly token: Token }) {
  const texts = useTexts();
  const days = endsSoon(token);
  return days === undefined ? null : <div className={classes.soon}>{texts.endsIn(days)}</div>;
}
