import type { ComboboxParsedItem } from '@mantine/core';

/** Options, or one that says that there are none and cannot be chosen: a list of options may hold nothing else. */
export function orNothing(options: ComboboxParsedItem[], message: string): ComboboxParsedItem[] {
  return options.length > 0 ? options : [{ value: '', label: message, disabled: true }];
}
