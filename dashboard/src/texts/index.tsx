import { createContext, type ReactNode, useContext, useEffect, useMemo, useState } from 'react';
import { lasting } from '../storage.ts';
import { german } from './de.ts';
import { english, type Texts } from './en.ts';

const languages = { en: english, de: german };
export type Language = keyof typeof languages;
/** In their own words: whoever looks for a language knows that one. */
export const languageNames: Record<Language, string> = { en: 'English', de: 'Deutsch' };

const memoryName = 'language';
const isLanguage = (value: unknown): value is Language => typeof value === 'string' && value in languages;

/** The user's choice, else the first of the browser's languages that there is, else English. */
function initialLanguage(): Language {
  const chosen = lasting.get(memoryName);
  if (isLanguage(chosen)) return chosen;
  return navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase()).find(isLanguage) ?? 'en';
}

interface Localization {
  readonly language: Language;
  /** The language with the user's region, where the browser has one: it decides how dates and numbers look. */
  readonly locale: string;
  readonly texts: Texts;
  setLanguage(language: Language): void;
}

const Context = createContext<Localization>({
  language: 'en',
  locale: 'en',
  texts: english,
  setLanguage: () => {},
});

export function LocalizationProvider({ children }: { readonly children: ReactNode }) {
  const [language, setLanguage] = useState(initialLanguage);
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  const localization = useMemo(
    () => ({
      language,
      locale: navigator.languages.find((tag) => tag.slice(0, 2).toLowerCase() === language) ?? language,
      texts: languages[language],
      setLanguage(next: Language) {
        lasting.set(memoryName, next);
        setLanguage(next);
      },
    }),
    [language],
  );
  return <Context value={localization}>{children}</Context>;
}

export const useLocalization = () => useContext(Context);
export const useTexts = () => useContext(Context).texts;
