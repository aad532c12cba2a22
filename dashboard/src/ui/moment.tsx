import { useLocalization } from '../texts/index.tsx';

/** `2026-11-24 11:36:33 UTC` */
export function formatUtc(time: string): string {
  return `${new Date(time).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

/** A time in the user's zone; the exact one in UTC as its title, or beside it. */
export function Moment({
  time,
  precision = 'minute',
  withUtc = false,
}: {
  /** RFC 3339 */
  readonly time: string;
  readonly precision?: 'day' | 'minute';
  readonly withUtc?: boolean;
}) {
  const { locale } = useLocalization();
  return (
    <time dateTime={time} title={formatUtc(time)}>
      {formatTime(new Date(time), locale, precision)}
      {withUtc ? (
        <>
          {' '}
          <span className="together">({formatUtc(time)})</span>
        </>
      ) : null}
    </time>
  );
}

export function formatTime(time: Date, locale: string, precision: 'day' | 'minute' = 'minute'): string {
  return new Intl.DateTimeFormat(locale, {
    dateStyle: 'medium',
    ...(precision === 'minute' ? { timeStyle: 'short' } : {}),
  }).format(time);
}
