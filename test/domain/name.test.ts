import { describe, expect, it } from 'vitest';
import { nameFault } from '../../server/domain/name.ts';
import { createPlatformToken } from '../../server/domain/platform-token.ts';

describe('a name is refused', () => {
  it.each([
    ['a variation selector behind a Latin letter', 'Admin\ufe0f'],
    ['a variation selector behind a digit alone', '1\ufe0f'],
    ['a combining grapheme joiner', 'Ad\u034fmin'],
    ['a reserved invisible', 'Ad\u{e0fff}min'],
    ['a Khmer inherent vowel', 'Ad\u17b4min'],
    ['a Hangul filler inside', 'a\u3164b'],
    ['a halfwidth filler', 'a\uffa0b'],
    ['a choseong filler', 'a\u115fb'],
    ['a blank of Braille inside', 'a\u2800b'],
    ['a Mongolian selector between Latin letters', 'a\u180bb'],
    ['an ideographic selector between Latin letters', 'a\u{e01ef}b'],
    ['a joiner between marks on Latin letters', 'ad\u0301\u200c\u0301min'],
    ['a joiner between Han letters', '管\u200d理'],
    ['a joiner between Hebrew letters', 'של\u200cום'],
    ['a non-joiner at the end', 'می\u200c'],
    ['two joiners at the end', 'അവന്\u200d\u200d'],
    ['tags that are no flag', '🏴\u{e0061}x'],
    ['a mark alone', '\u0301'],
    ['a noncharacter', 'a\ufffeb'],
    ['a platform token in it', `key ${createPlatformToken('ptk').token}.`],
    ['one with something before it', `mykey${createPlatformToken('ptk').token}x`],
  ])('for %s', (_what, name) => {
    expect(nameFault(name)).toBeTypeOf('string');
  });
});

describe('a name stays', () => {
  it.each([
    ['a build of a commit', `build_${'0123456789abcdef'.repeat(4).slice(0, 49)}`],
    ['a Latin word with a Persian plural', 'CD\u200cها'],
    ['a Persian ordinal', 'سال ۱۴۰۲\u200cام'],
    ['a word that ends in a Malayalam chillu', 'അവന്\u200d പറഞ്ഞു'],
    ['an Arabic abbreviation', 'ه\u200d'],
    ['the flag of England', '🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}'],
    ['a keycap', '1\ufe0f\u20e3'],
    ['a heart', '❤\ufe0f'],
    ['a variant of a Han letter', '葛\u{e0100}城'],
    ['accents apart from their letters', 'e\u0301te\u0301'],
    ['signs', '#1 – a/b'],
  ])('with %s', (_what, name) => {
    expect(nameFault(name)).toBeUndefined();
  });
});
