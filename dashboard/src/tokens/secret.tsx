import { type RefObject, useLayoutEffect } from 'react';
import classes from './tokens.module.css';

/** A value that can be forgotten: whoever held the box holds nothing afterwards. */
export interface Secret {
  /** Tells it from others. */
  readonly id: string;
  read(): string;
  forget(): void;
}

export function createSecret(value: string): Secret {
  let held = value;
  return {
    id: crypto.randomUUID(),
    read: () => held,
    forget() {
      held = '';
    },
  };
}

/**
 * Shows a secret in a field that is written past React, which would keep it in the properties of what it has rendered.
 * @param write makes the text of it
 */
export function SecretText({
  secret,
  write,
  label,
  rows,
  field,
}: {
  readonly secret: Secret;
  readonly write: (value: string) => string;
  readonly label: string;
  readonly rows: number;
  readonly field: RefObject<HTMLTextAreaElement | null>;
}) {
  useLayoutEffect(() => {
    const { current } = field;
    if (!current) return;
    current.value = write(secret.read());
    return () => {
      current.value = '';
    };
  }, [secret, write, field]);
  return (
    <textarea
      ref={field}
      readOnly
      aria-label={label}
      rows={rows}
      spellCheck={false}
      // Browsers write down what stands in a field, to have it again after a crash: on the disk it would outlive the window.
      autoComplete="off"
      className={classes.secret}
    />
  );
}
