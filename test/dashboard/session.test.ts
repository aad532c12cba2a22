import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Page } from 'playwright-core';
import { beforeEach, expect, it } from 'vitest';
import { createTestDatabase, exchange, findFreePort, kek } from '../support/harness.ts';
import { createStage, describeInBrowser, type Person, password, signIn } from './support/dashboard.ts';

describeInBrowser('the session of the dashboard', () => {
  const stage = createStage();
  let organization: { id: string };
  let user: Person;

  beforeEach(async () => {
    organization = await stage.harness.build.organization('Acme');
    user = await stage.harness.build.user({ organizationId: organization.id, password });
  });

  const path = '/dashboard/settings/profile/access-tokens';
  const heading = (page: Page) => page.getByRole('heading', { level: 1, name: 'Profile' });

  /** Something that needs an answer of the API. */
  const askServer = async (page: Page) => {
    const search = page.getByLabel('Search by name');
    await search.fill(`${await search.inputValue()}a`);
  };

  /** The session ends on the server: sessions and grants of everybody are gone. */
  const endSessions = () => stage.harness.database.knex('oidc_artifacts').delete();

  it('returns from the sign-in to the view that was asked for', async () => {
    const page = await stage.open();
    await page.goto(`${path}?q=ci&sort=name`);
    await signIn(page, user);
    await page.waitForURL(/access-tokens\?q=ci&sort=name/);
    expect(await page.getByLabel('Search by name').inputValue()).toBe('ci');
    expect(await page.evaluate(() => ({ ...sessionStorage }))).toEqual({});
  });

  it('is still signed in after a reload and in a second tab, without the sign-in page', async () => {
    const page = await stage.openAs(user);
    await page.reload();
    await heading(page).waitFor();
    const other = await page.context().newPage();
    await other.goto('/');
    await heading(other).waitFor();
    await other.waitForURL(/\/dashboard\/settings\/profile\/access-tokens\?organization=/);
  });

  it('renews its access token before it ends, unseen', async () => {
    const page = await stage.open();
    await page.clock.install();
    await page.goto('/dashboard');
    await signIn(page, user);
    await heading(page).waitFor();
    const renewed = page.waitForResponse((response) => response.url().endsWith('/oauth/token'));
    // performance.now() is what the dashboard counts by.
    await page.clock.fastForward('09:45');
    await askServer(page);
    expect((await renewed).status()).toBe(200);
    await heading(page).waitFor();
  });

  it('keeps what was typed when the session ends, and goes on after signing in again', async () => {
    const page = await stage.openAs(user);
    await page.getByRole('button', { name: 'Generate token' }).click();
    const form = page.getByRole('dialog', { name: 'Generate access token' });
    await form.getByLabel('Token name').fill('Typed before');
    await form.getByRole('combobox', { name: 'Service' }).click();
    await page.getByRole('option', { name: 'TMS' }).click();
    await endSessions();
    stage.expectedErrors.push('401');
    await form.getByRole('button', { name: 'Generate', exact: true }).click();
    const expired = page.getByRole('dialog', { name: 'Your session has ended' });
    await expired.waitFor();
    const address = page.url();
    const opened = page.waitForEvent('popup');
    await expired.getByRole('button', { name: 'Sign in again' }).click();
    const popup = await opened;
    await signIn(popup, user);
    // It closes by itself, and what was under way is done: once.
    await expired.waitFor({ state: 'detached' });
    expect(popup.isClosed()).toBe(true);
    await page.getByRole('dialog', { name: 'One-time access token display!' }).waitFor();
    expect(page.url()).toBe(address);
    const tokens = await stage.harness.database.knex('platform_tokens').where({ user_id: user.id });
    expect(tokens.map(({ name }) => name)).toEqual(['Typed before']);
  });

  it('keeps a token that is being shown when the session ends', async () => {
    const page = await stage.openAs(user);
    await page.getByRole('button', { name: 'Generate token' }).click();
    const form = page.getByRole('dialog', { name: 'Generate access token' });
    await form.getByLabel('Token name').fill('Shown');
    await form.getByRole('combobox', { name: 'Service' }).click();
    await page.getByRole('option', { name: 'TMS' }).click();
    await form.getByRole('button', { name: 'Generate', exact: true }).click();
    const field = page.getByLabel('Your token');
    const shown = await field.inputValue();
    await endSessions();
    stage.expectedErrors.push('401');
    // Coming back to the window reads the list again, where it is five seconds old.
    const expired = page.getByRole('dialog', { name: 'Your session has ended' });
    const comeBack = async () => {
      await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange', { bubbles: true })));
      return expired.isVisible();
    };
    await expect.poll(comeBack, { interval: 500, timeout: 15_000 }).toBe(true);
    const opened = page.waitForEvent('popup');
    await expired.getByRole('button').click();
    await signIn(await opened, user);
    await expired.waitFor({ state: 'detached' });
    expect(await field.inputValue()).toBe(shown);
  });

  it('begins anew where somebody else signs in', async () => {
    const other = await stage.harness.build.user({ organizationId: organization.id, password });
    await stage.harness.build.platformToken({
      organizationId: organization.id,
      userId: user.id,
      name: 'of the first',
      service: await stage.harness.build.service(),
    });
    const page = await stage.openAs(user);
    await page.getByText('of the first').waitFor();
    await endSessions();
    stage.expectedErrors.push('401');
    await askServer(page);
    const opened = page.waitForEvent('popup');
    await page.getByRole('button', { name: 'Sign in again' }).click();
    await signIn(await opened, other);
    await page.getByText('Nothing found').waitFor();
    await page.getByLabel('Search by name').fill('');
    await page.getByText('No tokens yet').waitFor();
  });

  it("does nothing in another user's name, whoever this browser belongs to meanwhile", async () => {
    const colleague = await stage.harness.build.user({
      organizationId: organization.id,
      role: 'admin',
      password,
    });
    const { token } = await stage.harness.build.platformToken({
      organizationId: organization.id,
      userId: user.id,
      name: 'of the first',
      service: await stage.harness.build.service(),
    });
    const page = await stage.openAs(user);
    await page.getByRole('button', { name: 'Delete of the first' }).click();
    const dialog = page.getByRole('dialog', { name: 'Delete this token?' });
    await dialog.waitFor();
    await endSessions();
    // Without a word to this page: its session's cookies are another user's now.
    const elsewhere = await stage.openAs(colleague);
    await page.context().addCookies(await elsewhere.context().cookies());
    stage.expectedErrors.push('401');
    // The page goes on for a while after it was told to load anew.
    await page.route('**/dashboard/**', async (route) => {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      await route.continue();
    });
    await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
    await page.getByText('No tokens yet').waitFor();
    expect((await exchange(stage.harness.url, token)).status).toBe(200);
  });

  it('begins anew in every tab when somebody else signs in in one of them', async () => {
    const other = await stage.harness.build.user({ organizationId: organization.id, password });
    const page = await stage.openAs(user);
    await endSessions();
    // The page may ask before it is told to begin anew.
    stage.expectedErrors.push('401');
    const tab = await page.context().newPage();
    await tab.goto('/dashboard');
    await signIn(tab, other);
    await heading(tab).waitFor();
    await page.getByRole('button', { name: /User menu/ }).click();
    await page.getByText(other.email).waitFor();
  });

  it('says that nobody is signed in only where that is true', async () => {
    const page = await stage.openAs(user);
    await page.goto('/dashboard/signed-out');
    await heading(page).waitFor();
  });

  it('signs in the whole page where windows are blocked', async () => {
    const page = await stage.openAs(user);
    await page.goto(`${path}?q=x`);
    await page.getByText('Nothing found').waitFor();
    await page.evaluate(() => {
      window.open = () => null;
    });
    await endSessions();
    stage.expectedErrors.push('401');
    await askServer(page);
    await page.getByRole('button', { name: 'Sign in again' }).click();
    await signIn(page, user);
    await page.waitForURL(/q=x/);
    await heading(page).waitFor();
  });

  it('goes on in every tab after one of them has signed in again', async () => {
    const page = await stage.openAs(user);
    const other = await page.context().newPage();
    await other.goto('/dashboard');
    await heading(other).waitFor();
    await endSessions();
    stage.expectedErrors.push('401');
    for (const tab of [page, other]) {
      await tab.bringToFront();
      await askServer(tab);
      await tab.getByRole('dialog', { name: 'Your session has ended' }).waitFor();
    }
    const opened = other.waitForEvent('popup');
    await other.getByRole('button', { name: 'Sign in again' }).click();
    await signIn(await opened, user);
    for (const tab of [page, other]) {
      await tab.getByRole('dialog', { name: 'Your session has ended' }).waitFor({ state: 'detached' });
    }
  });

  it('signs out everywhere in this browser, and ends the access token', async () => {
    const page = await stage.openAs(user);
    const other = await page.context().newPage();
    await other.goto('/dashboard');
    await heading(other).waitFor();
    await page.bringToFront();
    const request = page.waitForRequest(/\/admin\/tokens/);
    await askServer(page);
    const authorization = String((await (await request).allHeaders()).authorization);
    await page.getByRole('button', { name: /User menu/ }).click();
    await page.getByRole('menuitem', { name: 'Sign out' }).click();
    await page.waitForURL(/\/dashboard\/signed-out$/);
    await page.getByText('You are signed out').waitFor();
    await other.getByText('You are signed out').waitFor();
    expect((await fetch(`${stage.harness.url}/admin/me`, { headers: { authorization } })).status).toBe(401);
    expect((await page.context().cookies()).filter(({ name }) => name.startsWith('pt_session'))).toEqual([]);
    await other.bringToFront();
    await other.reload();
    await other.waitForURL(/\/oauth\/sign-in\//);
    await page.bringToFront();
    await page.getByRole('button', { name: 'Sign in' }).click();
    await signIn(page, user);
    await heading(page).waitFor();
  });

  it('signs out of a page that was left alone while the keys were replaced', async () => {
    const page = await stage.open();
    await page.clock.install();
    await page.goto('/dashboard');
    await signIn(page, user);
    await heading(page).waitFor();
    await page.clock.fastForward('15:00');
    await stage.harness.keyRing.rotate({ emergency: true, record: async () => {} });
    await page.getByRole('button', { name: /User menu/ }).click();
    await page.getByRole('menuitem', { name: 'Sign out' }).click();
    await page.getByText('You are signed out').waitFor();
    expect((await page.context().cookies()).filter(({ name }) => name.startsWith('pt_session'))).toEqual([]);
  });

  it('puts a deactivated user out at once', async () => {
    const page = await stage.openAs(user);
    await stage.harness.stores.users.update(user.id, { status: 'inactive', signsOut: true });
    stage.expectedErrors.push('401');
    await askServer(page);
    await page.getByRole('dialog', { name: 'Your session has ended' }).waitFor();
    const opened = page.waitForEvent('popup');
    await page.getByRole('button', { name: 'Sign in again' }).click();
    stage.expectedErrors.push('422');
    const popup = await opened;
    await signIn(popup, user);
    await popup.getByText('Incorrect email or password.').waitFor();
  });

  it('never sends as the next user what the one before has asked for', async () => {
    const page = await stage.openAs(user);
    await page.getByRole('button', { name: 'Generate token' }).click();
    const form = page.getByRole('dialog', { name: 'Generate access token' });
    await form.getByLabel('Token name').fill('Typed by the first');
    await form.getByRole('combobox', { name: 'Service' }).click();
    await form.getByRole('option', { name: 'TMS' }).click();
    await stage.harness.stores.users.update(user.id, { signsOut: true });
    stage.expectedErrors.push('401');
    await form.getByRole('button', { name: 'Generate', exact: true }).click();
    await page.getByRole('dialog', { name: 'Your session has ended' }).waitFor();

    const other = await stage.harness.build.user({ organizationId: organization.id, password });
    const tab = await page.context().newPage();
    await tab.goto('/dashboard/signed-out');
    await tab.getByRole('button', { name: 'Sign in' }).click();
    await signIn(tab, other);
    await heading(tab).waitFor();
    // This page is the next user's by now.
    await page.bringToFront();
    await page.getByRole('button', { name: 'Generate token' }).waitFor();
    await page.waitForLoadState('networkidle');
    const made = await stage.harness.database.knex('platform_tokens').where({ name: 'Typed by the first' });
    expect(made).toEqual([]);
  });

  it('does not redeem a callback twice, nor one that it has not asked for', async () => {
    const page = await stage.openAs(user);
    await page.goto('/dashboard/callback?code=stolen&state=foreign');
    // Signed in already: the foreign code is left alone.
    await heading(page).waitFor();
    expect(page.url()).not.toContain('code=');
    const stranger = await stage.open();
    await stranger.goto('/dashboard/callback?error=access_denied&state=foreign');
    await stranger.waitForURL(/\/oauth\/sign-in\//);
  });

  it('leads from another name of the server to its own', async () => {
    const page = await stage.open();
    await page.goto(`${stage.harness.issuer.replace('localhost', '127.0.0.1')}/dashboard`);
    stage.expectedErrors.push('third-party request: http://127.0.0.1');
    await page.waitForURL(`${stage.harness.issuer}/oauth/sign-in/**`);
  });

  it('says that the server is away, loses nothing, and goes on when it is back', async () => {
    const { url, drop, database } = await createTestDatabase();
    const port = await findFreePort();
    const issuer = `http://localhost:${port}`;
    await database
      .knex('organizations')
      .insert({ id: organization.id, name: 'Acme', created_at: new Date() });
    const row = await stage.harness.database.knex('users').where({ id: user.id }).first();
    await database.knex('users').insert(row);
    await database
      .knex('memberships')
      .insert({ organization_id: organization.id, user_id: user.id, role: 'member', created_at: new Date() });
    await database
      .knex('services')
      .insert(await stage.harness.database.knex('services').where({ id: 'tms' }).first());

    let child: ChildProcess | undefined;
    const start = async () => {
      child = spawn(process.execPath, ['server/main.ts'], {
        env: {
          PATH: process.env.PATH,
          PORT: String(port),
          DATABASE_URL: url,
          KEY_ENCRYPTION_KEY: kek.toString('base64url'),
        },
        stdio: 'ignore',
      });
      const ready = () =>
        fetch(`${issuer}/health/ready`).then(
          ({ ok }) => ok,
          () => false,
        );
      await expect.poll(ready, { timeout: 15_000 }).toBe(true);
    };
    const kill = async () => {
      if (!child || child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    };
    try {
      await start();
      const page = await stage.open({ baseURL: issuer });
      stage.expectedErrors.push(
        `third-party request: ${issuer}`,
        'ERR_CONNECTION_REFUSED',
        'ERR_CONNECTION_RESET',
        '503',
      );
      await page.goto('/dashboard');
      await signIn(page, user);
      await page.getByText('No tokens yet').waitFor();
      await page.getByRole('button', { name: 'Generate token' }).click();
      const form = page.getByRole('dialog', { name: 'Generate access token' });
      await form.getByLabel('Token name').fill('Through a crash');
      await form.getByRole('combobox', { name: 'Service' }).click();
      await page.getByRole('option', { name: 'TMS' }).click();

      await kill();
      await form.getByRole('button', { name: 'Generate', exact: true }).click();
      await form.getByText('The server did not answer').waitFor();
      await page.getByText('The server can’t be reached. Trying again …').waitFor();
      expect(await form.getByLabel('Token name').inputValue()).toBe('Through a crash');

      await start();
      await page
        .getByText('The server can’t be reached. Trying again …')
        .waitFor({ state: 'detached', timeout: 15_000 });
      await form.getByRole('button', { name: 'Generate', exact: true }).click();
      await page.getByRole('dialog', { name: 'One-time access token display!' }).waitFor();
      expect(await database.knex('platform_tokens').where({ user_id: user.id })).toHaveLength(1);
    } finally {
      await kill();
      await drop();
    }
  }, 60_000);

  it('tells those without an organization what to do', async () => {
    const loner = await stage.harness.build.user({ password });
    const page = await stage.openAs(loner);
    await page.getByText('You belong to no active organization').waitFor();
  });
});
