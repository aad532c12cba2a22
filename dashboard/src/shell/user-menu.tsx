import { Avatar, Menu, Text, UnstyledButton, useMantineColorScheme } from '@mantine/core';
import { Link } from 'wouter';
import { useServices } from '../context.ts';
import { useCurrent, useHref } from '../organization.tsx';
import { paths } from '../paths.ts';
import { type Language, languageNames, useLocalization } from '../texts/index.tsx';
import classes from './shell.module.css';

type Appearance = 'auto' | 'light' | 'dark';
const appearances: readonly Appearance[] = ['auto', 'light', 'dark'];
const languages = Object.keys(languageNames) as Language[];

/** At the top right: settings, language, appearance, and the way out. */
export function UserMenu() {
  const { texts, language, setLanguage } = useLocalization();
  const { session } = useServices();
  const { me } = useCurrent();
  const href = useHref();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <Menu position="bottom-end" width={260}>
      <Menu.Target>
        <UnstyledButton aria-label={texts.userMenu(me.name)} className={classes.round}>
          <Avatar name={me.name} alt="" color="brand" variant="filled" />
        </UnstyledButton>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          <Text size="sm" fw={600} truncate c="var(--mantine-color-text)">
            {me.name}
          </Text>
          <Text size="xs" truncate>
            {me.email}
          </Text>
        </Menu.Label>
        <Menu.Divider />
        <Menu.Item component={Link} href={href(paths.accessTokens)}>
          {texts.settings}
        </Menu.Item>
        <Menu.Divider />
        <Menu.Label>{texts.appearance}</Menu.Label>
        <Menu.RadioGroup value={colorScheme} onChange={(value) => setColorScheme(value as Appearance)}>
          <fieldset className={classes.choice} aria-label={texts.appearance}>
            {appearances.map((appearance) => (
              <Menu.RadioItem key={appearance} value={appearance}>
                {texts.appearances[appearance]}
              </Menu.RadioItem>
            ))}
          </fieldset>
        </Menu.RadioGroup>
        <Menu.Label>{texts.language}</Menu.Label>
        <Menu.RadioGroup value={language} onChange={(value) => setLanguage(value as Language)}>
          <fieldset className={classes.choice} aria-label={texts.language}>
            {languages.map((other) => (
              <Menu.RadioItem key={other} value={other} lang={other}>
                {languageNames[other]}
              </Menu.RadioItem>
            ))}
          </fieldset>
        </Menu.RadioGroup>
        <Menu.Divider />
        <Menu.Item onClick={() => void session.signOut()}>{texts.signOut}</Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
