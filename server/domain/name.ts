import { findPlatformTokens } from './platform-token.ts';

/**
 * Names of tokens, users, organizations, services and clients: what somebody reads, and must be able to trust. Format
 * characters reorder a name, and invisible ones make two of them look alike; where a script needs one, it stays.
 */

const maximumLength = 100;
const control = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Noncharacter_Code_Point}]/u;
const invisible = /[\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]/u;
const visible = /[\p{L}\p{N}\p{P}\p{S}]/u;

// Scripts in which U+200C and U+200D show nothing, and marks that belong to no script.
const unjoined = ['Latn', 'Grek', 'Cyrl', 'Hebr', 'Hani', 'Hira', 'Kana', 'Hang', 'Zinh'];
const letter = String.raw`[[\p{L}\p{M}]--[${unjoined.map((script) => String.raw`\p{sc=${script}}`).join('')}]]`;
const joining = String.raw`[${letter}\p{ExtPict}\p{EMod}]`;
const needed = new RegExp(
  [
    // The joiners: in words of Persian, Hindi and others, also beside a foreign word or a number; in emoji.
    String.raw`(?<=${joining})[\u200c\u200d](?=[${joining}\p{L}\p{N}])`,
    String.raw`(?<=[\p{L}\p{N}\ufe0f])[\u200c\u200d](?=${joining})`,
    // At a word's end the joiner gives the last letter its shape.
    String.raw`(?<=${letter})\u200d`,
    // Variation selectors, behind what has variants.
    String.raw`(?<=\p{ExtPict})[\ufe0e\ufe0f]|(?<=[0-9#*])\ufe0f(?=\u20e3)`,
    String.raw`(?<=\p{sc=Hani})[\ufe00-\ufe02\u{e0100}-\u{e01ef}]|(?<=\p{sc=Mong})[\u180b-\u180f]`,
    // The flags of England, Scotland and Wales.
    String.raw`\p{RGI_Emoji_Tag_Sequence}`,
  ].join('|'),
  'gv',
);

/** @returns what is wrong with a name, or undefined. Its length is in characters, without the blanks around it. */
export function nameFault(name: string): string | undefined {
  if (control.test(name)) return 'must not contain control characters or line breaks';
  if (invisible.test(name.replace(needed, ''))) return 'must not contain invisible characters';
  if (!visible.test(name)) return 'must not be empty';
  // Names are listed and logged by whoever reads them.
  if (findPlatformTokens(name).length > 0) return 'must not contain a platform token';
  if ([...name.trim()].length > maximumLength) return `must have at most ${maximumLength} characters`;
  return undefined;
}
