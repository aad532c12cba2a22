import { Button, Menu, Text } from '@mantine/core';
import { useCurrent, useSwitchOrganization } from '../organization.tsx';
import { useTexts } from '../texts/index.tsx';
import classes from './shell.module.css';

/** Which organization's tokens are shown: a menu for those who belong to several. */
export function OrganizationSwitcher() {
  const texts = useTexts();
  const { me, membership } = useCurrent();
  const switchTo = useSwitchOrganization();
  const name = membership?.organization.name ?? texts.organization;
  if (me.memberships.length < 2) {
    return membership ? (
      <Text size="sm" c="dimmed" truncate maw={220}>
        {name}
      </Text>
    ) : null;
  }
  return (
    <Menu position="bottom-end" width={260}>
      <Menu.Target>
        <Button variant="default" maw={220} aria-label={texts.switchOrganization(name)} rightSection="▾">
          {name}
        </Button>
      </Menu.Target>
      <Menu.Dropdown mah="60vh" className={classes.scrolls}>
        <Menu.Label>{texts.organization}</Menu.Label>
        <Menu.RadioGroup value={membership?.organization.id ?? null} onChange={switchTo}>
          <fieldset className={classes.choice} aria-label={texts.organization}>
            {me.memberships.map(({ organization }) => (
              <Menu.RadioItem key={organization.id} value={organization.id}>
                {organization.name}
              </Menu.RadioItem>
            ))}
          </fieldset>
        </Menu.RadioGroup>
      </Menu.Dropdown>
    </Menu>
  );
}
