import type { Locator, Page } from 'playwright-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { createStage, describeInBrowser, type Person, password } from './support/dashboard.ts';
import { type Scene, setScene } from './support/scene.ts';

const isFocused = (locator: Locator) => locator.evaluate((element) => element === document.activeElement);
const expectFocus = (locator: Locator) => expect.poll(() => isFocused(locator)).toBe(true);

/** Why whoever looks at the page does not see where the focus is; undefined where they do. */
function findFocusFault(): string | undefined {
  const focused = document.activeElement;
  if (!focused || focused === document.body) return 'nothing has the focus';
  const name = `<${focused.tagName.toLowerCase()} class="${focused.className}"> ${focused.textContent.slice(0, 40)}`;
  // A field of several parts shows it around all of them.
  const around = [focused, focused.closest('.mantine-Input-input, .mantine-MultiSelect-input')];
  const hasRing = around.some((element) => {
    if (!element) return false;
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    return outlineStyle !== 'none' && Number.parseFloat(outlineWidth) >= 2;
  });
  if (!hasRing) return `no ring around ${name}`;
  const { left, top, width, height } = focused.getBoundingClientRect();
  const x = Math.min(Math.max(left + width / 2, 1), innerWidth - 1);
  const y = Math.min(Math.max(top + height / 2, 1), innerHeight - 1);
  const seen = document.elementFromPoint(x, y);
  const isCovered = seen !== null && !focused.contains(seen) && !seen.contains(focused);
  // What is cut to the size of a point is the box of a drawn one beside it.
  return isCovered && width > 1
    ? `${name} is covered by <${seen.tagName} class="${seen.className}">`
    : undefined;
}

const expectVisibleFocus = (page: Page) => expect.poll(() => page.evaluate(findFocusFault)).toBe(undefined);

async function tabTo(page: Page, target: Locator, key: 'Tab' | 'Shift+Tab' = 'Tab'): Promise<void> {
  for (let steps = 0; steps < 60; steps += 1) {
    await page.keyboard.press(key);
    await expectVisibleFocus(page);
    const [focused] = await target.evaluateAll((elements) =>
      elements.length === 1 ? [elements[0] === document.activeElement] : [],
    );
    if (focused) return;
  }
  throw new Error(`${key} does not lead to ${target}`);
}

/** By the button that has the focus; ready when the window has taken it. */
async function openWindow(page: Page, name: string): Promise<Locator> {
  await page.keyboard.press('Enter');
  const dialog = page.getByRole('dialog', { name });
  await expect.poll(() => dialog.evaluate((element) => element.contains(document.activeElement))).toBe(true);
  await expectVisibleFocus(page);
  return dialog;
}

describeInBrowser('with the keyboard alone', () => {
  const stage = createStage();
  let scene: Scene;

  beforeAll(async () => {
    scene = await setScene(stage);
  });

  const button = (page: Page, name: string) => page.getByRole('button', { name, exact: true });
  const list = (page: Page) => page.getByRole('region', { name: 'Access tokens' });
  async function createMember(): Promise<Person> {
    return stage.harness.build.user({ organizationId: scene.organizations.busy.id, password });
  }
  const give = (user: Person, name: string) => {
    const service = stage.services.get('tms');
    if (!service) throw new Error('no service');
    const organizationId = scene.organizations.busy.id;
    return stage.harness.build.platformToken({ organizationId, userId: user.id, name, service });
  };

  it('signs in, generates, copies, finds and deletes a token, and signs out', async () => {
    const user = await createMember();
    await give(user, 'Other');
    const page = await stage.open({ permissions: ['clipboard-read', 'clipboard-write'] });
    await page.goto('/dashboard');
    await expectFocus(page.getByLabel('Email'));
    await page.keyboard.type(user.email);
    await tabTo(page, page.getByLabel('Password'));
    await page.keyboard.type(password);
    await page.keyboard.press('Enter');
    await page.locator('tbody tr').first().waitFor();

    await tabTo(page, button(page, 'Generate token'));
    const form = await openWindow(page, 'Generate access token');
    await expectFocus(form.getByLabel('Token name'));
    await page.keyboard.type('Nightly');
    await tabTo(page, form.getByRole('combobox', { name: 'Service' }));
    await page.keyboard.type('stri');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await form.getByText('strings:write').waitFor();
    await expectFocus(form.getByRole('combobox', { name: 'Service' }));
    await tabTo(page, form.getByRole('button', { name: 'Generate', exact: true }));
    await page.keyboard.press('Enter');

    const shown = page.getByRole('dialog', { name: 'One-time access token display!' });
    await expectFocus(shown.getByRole('button', { name: 'Copy token' }));
    await page.keyboard.press('Enter');
    await shown.getByText('✓ Copied').waitFor();
    const secret = await shown.getByLabel('Your token').inputValue();
    expect(secret).toMatch(/^ptk_\w{49}$/);
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(secret);
    await page.keyboard.press('Escape');
    await tabTo(page, shown.getByRole('button', { name: 'I have saved the token' }));
    await page.keyboard.press('Enter');
    await shown.waitFor({ state: 'detached' });
    await expectFocus(button(page, 'Generate token'));
    await expectVisibleFocus(page);

    await tabTo(page, page.getByLabel('Search by name'));
    await page.keyboard.type('night');
    await page.getByText('1 token', { exact: true }).waitFor();
    await tabTo(page, page.getByRole('checkbox', { name: 'Select Nightly' }));
    await page.keyboard.press('Space');
    await page.getByText('1 selected').waitFor();
    await tabTo(page, button(page, 'Delete'), 'Shift+Tab');
    const question = await openWindow(page, 'Delete this token?');
    await expectFocus(question.getByRole('button', { name: 'Cancel' }));
    await tabTo(page, question.getByRole('button', { name: 'Delete' }));
    await page.keyboard.press('Enter');
    await page.getByText('1 token deleted').waitFor();
    await page.getByText('Nothing found').waitFor();
    await expectFocus(list(page));
    await expectVisibleFocus(page);

    await tabTo(page, page.getByRole('button', { name: /^User menu of/ }), 'Shift+Tab');
    await page.keyboard.press('Enter');
    await expectFocus(page.getByRole('menuitem', { name: 'Settings' }));
    await expectVisibleFocus(page);
    await page.keyboard.press('End');
    await expectFocus(page.getByRole('menuitem', { name: 'Sign out' }));
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'You are signed out' }).waitFor();
    await tabTo(page, button(page, 'Sign in'));
  });

  it('jumps over the header', async () => {
    const page = await stage.openAs(scene.people.member);
    await page.locator('tbody tr').first().waitFor();
    await tabTo(page, page.getByRole('link', { name: 'Skip to content' }));
    await page.keyboard.press('Enter');
    await expectFocus(page.locator('#content'));
    await tabTo(page, page.getByRole('tab', { name: 'Access tokens' }));
  });

  it('reaches everything on the way through a page, and sees where it is', async () => {
    const page = await stage.openAs(scene.people.admin);
    await page.goto('/dashboard/settings/members/access-tokens');
    await page.locator('tbody tr').first().waitFor();
    await tabTo(page, page.getByRole('checkbox', { name: 'Select all on this page' }));
    for (let row = 0; row < 9; row += 1) {
      await page.keyboard.press('Tab');
      await expectVisibleFocus(page);
    }
  });

  describe('closes by Escape, and is back where it was', () => {
    it.each([
      { what: 'the form', opener: 'Generate token', window: 'Generate access token' },
      { what: 'the question', opener: 'Delete Build server', window: 'Delete this token?' },
      { what: 'the details', opener: 'Build server', window: 'Build server' },
    ])('$what', async ({ opener, window }) => {
      const page = await stage.openAs(scene.people.member);
      await page.locator('tbody tr').first().waitFor();
      await tabTo(page, button(page, opener));
      const dialog = await openWindow(page, window);
      await page.keyboard.press('Escape');
      await dialog.waitFor({ state: 'detached' });
      await expectFocus(button(page, opener));
      await expectVisibleFocus(page);
    });

    it('the menus', async () => {
      const page = await stage.openAs(scene.people.admin);
      await page.locator('tbody tr').first().waitFor();
      for (const name of [/^Organization: /, /^User menu of/]) {
        const opener = page.getByRole('button', { name });
        await tabTo(page, opener);
        await page.keyboard.press('Enter');
        await page.getByRole('menu').waitFor();
        await expectVisibleFocus(page);
        await page.keyboard.press('Escape');
        await page.getByRole('menu').waitFor({ state: 'detached' });
        await expectFocus(opener);
      }
    });

    it('a list of options, and not the window that it is in', async () => {
      const page = await stage.openAs(scene.people.member);
      await page.locator('tbody tr').first().waitFor();
      await tabTo(page, button(page, 'Generate token'));
      const form = await openWindow(page, 'Generate access token');
      await expectFocus(form.getByLabel('Token name'));
      const service = form.getByRole('combobox', { name: 'Service' });
      await tabTo(page, service);
      await page.getByRole('option').first().waitFor();
      await page.keyboard.press('Escape');
      await page.getByRole('option').first().waitFor({ state: 'hidden' });
      await expectFocus(service);
    });
  });

  it('stays in the one-time window until its button is pressed', async () => {
    const user = await createMember();
    const page = await stage.openAs(user);
    await button(page, 'Generate token').click();
    await page.getByLabel('Token name').fill('Nightly');
    await page.getByRole('dialog').getByRole('combobox', { name: 'Service' }).click();
    await page.getByRole('option', { name: 'TMS' }).click();
    await button(page, 'Generate').click();
    const shown = page.getByRole('dialog', { name: 'One-time access token display!' });
    await expectFocus(shown.getByRole('button', { name: 'Copy token' }));
    for (const key of ['Escape', 'Tab', 'Tab', 'Tab', 'Tab', 'Tab', 'Tab', 'Shift+Tab', 'Escape']) {
      await page.keyboard.press(key);
      expect(await shown.evaluate((element) => element.contains(document.activeElement))).toBe(true);
      await expectVisibleFocus(page);
    }
    await tabTo(page, shown.getByRole('button', { name: 'I have saved the token' }));
    await page.keyboard.press('Enter');
    // Nothing was copied: it asks, and what is pressed again leads back.
    await expectFocus(shown.getByRole('button', { name: 'Back to the token' }));
    await page.keyboard.press('Enter');
    await expectFocus(shown.getByRole('button', { name: 'I have saved the token' }));
    await page.keyboard.press('Enter');
    await tabTo(page, shown.getByRole('button', { name: 'Close without copying' }));
    await page.keyboard.press('Enter');
    await shown.waitFor({ state: 'detached' });
    await expectFocus(button(page, 'Generate token'));
  });

  it('stays where it is needed when what had the focus goes', async () => {
    const user = await createMember();
    for (const name of ['One', 'Two', 'Three']) await give(user, name);
    const page = await stage.openAs(user);
    await page.locator('tbody tr').first().waitFor();

    // A row, by its own button.
    await tabTo(page, button(page, 'Delete Two'));
    const question = await openWindow(page, 'Delete this token?');
    await tabTo(page, question.getByRole('button', { name: 'Delete' }));
    await page.keyboard.press('Enter');
    await page.getByText('2 tokens', { exact: true }).waitFor();
    await expectFocus(list(page));
    await tabTo(page, page.getByRole('checkbox', { name: 'Select all on this page' }));

    // A button that has done what it is there for.
    await page.keyboard.press('Space');
    await tabTo(page, button(page, 'Clear selection'), 'Shift+Tab');
    await page.keyboard.press('Enter');
    await button(page, 'Clear selection').waitFor({ state: 'detached' });
    await expectFocus(list(page));
    await tabTo(page, page.getByLabel('Search by name'), 'Shift+Tab');
    await page.keyboard.type('zzz');
    await page.getByText('Nothing found').waitFor();
    await tabTo(page, button(page, 'Clear search and filters'));
    await page.keyboard.press('Enter');
    await page.locator('tbody tr').first().waitFor();
    await expectFocus(list(page));

    // A row that somebody deletes in another tab.
    await tabTo(page, button(page, 'Delete Three'));
    const other = await page.context().newPage();
    await other.goto('/dashboard');
    await button(other, 'Delete Three').click();
    await other.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByText('1 token', { exact: true }).waitFor();
    await expectFocus(list(page));
  });

  it('has the focus again on the button whose work has failed', async () => {
    const page = await stage.openAs(scene.people.member);
    await page.locator('tbody tr').first().waitFor();
    await page.route('**/admin/tokens/revoke', (route) => setTimeout(() => void route.abort(), 300));
    stage.expectedErrors.push('ERR_FAILED');
    await tabTo(page, button(page, 'Delete Build server'));
    const question = await openWindow(page, 'Delete this token?');
    const confirm = question.getByRole('button', { name: 'Delete' });
    await tabTo(page, confirm);
    await page.keyboard.press('Enter');
    await page.getByText('The server did not answer').waitFor();
    await expectFocus(confirm);
    await expectVisibleFocus(page);
    await page.keyboard.press('Escape');
    await expectFocus(button(page, 'Delete Build server'));
  });

  it('turns pages without losing its place', async () => {
    const page = await stage.openAs(scene.people.admin);
    await page.goto(`/dashboard/settings/members/access-tokens?organization=${scene.organizations.busy.id}`);
    await page.locator('tbody tr').first().waitFor();
    await button(page, 'Next').focus();
    await page.keyboard.press('Enter');
    await expect.poll(() => button(page, 'Next').isDisabled()).toBe(true);
    await expect.poll(() => page.evaluate(() => document.activeElement === document.body)).toBe(false);
    await expectVisibleFocus(page);
  });

  it('is in the window that asks to sign in again, and afterwards where it was', async () => {
    const page = await stage.openAs(scene.people.member);
    await page.locator('tbody tr').first().waitFor();
    const cookies = await page.context().cookies();
    await page.context().clearCookies();
    await page.route('**/admin/tokens?*', (route) => route.fulfill({ status: 401, json: {} }), { times: 1 });
    stage.expectedErrors.push('401');
    await tabTo(page, page.getByLabel('Search by name'));
    await page.keyboard.type('a');
    const again = button(page, 'Sign in again');
    await expectFocus(again);
    await page.keyboard.press('Escape');
    await page.keyboard.press('Tab');
    expect(await isFocused(again)).toBe(true);
    // Signed in by another tab meanwhile: the window that opens has nothing to ask.
    await page.context().addCookies(cookies);
    await page.keyboard.press('Enter');
    await again.waitFor({ state: 'detached' });
    await expectFocus(page.getByLabel('Search by name'));
  });
});
