import { createRemoteJWKSet, jwtVerify } from 'jose';
import type { Page } from 'playwright-core';
import { v7 as uuidv7 } from 'uuid';
import { beforeEach, expect, it } from 'vitest';
import { exchange } from '../support/harness.ts';
import { createStage, describeInBrowser, type Person, password, signIn } from './support/dashboard.ts';

describeInBrowser('the access tokens of a user', () => {
  const stage = createStage();
  let organization: { id: string };
  let user: Person;

  beforeEach(async () => {
    organization = await stage.harness.build.organization('Acme');
    user = await stage.harness.build.user({ organizationId: organization.id, password });
  });

  const service = (id: string) => {
    const found = stage.services.get(id);
    if (!found) throw new Error(`no service ${id}`);
    return found;
  };
  const give = (name: string, options: { service?: string; createdAt?: Date; revokedAt?: Date } = {}) =>
    stage.harness.build.platformToken({
      organizationId: organization.id,
      userId: user.id,
      name,
      service: service(options.service ?? 'tms'),
      ...(options.createdAt ? { createdAt: options.createdAt } : {}),
      ...(options.revokedAt ? { revokedAt: options.revokedAt } : {}),
    });

  /** Names in the table, from the top. */
  const names = (page: Page) => page.locator('tbody tr td:nth-child(2)').allTextContents();
  const expectNames = (page: Page, ...wanted: string[]) => expect.poll(() => names(page)).toEqual(wanted);

  async function generate(page: Page, name: string, label = 'TMS'): Promise<void> {
    await page.getByRole('button', { name: 'Generate token' }).click();
    const dialog = page.getByRole('dialog', { name: 'Generate access token' });
    await dialog.getByLabel('Token name').fill(name);
    await dialog.getByRole('combobox', { name: 'Service' }).click();
    await page.getByRole('option', { name: label }).click();
    await dialog.getByRole('button', { name: 'Generate', exact: true }).click();
  }

  it('generates a token that is copied, exchanged from the page, and verified through the JWKS', async () => {
    const page = await stage.openAs(user, { permissions: ['clipboard-read', 'clipboard-write'] });
    await page.getByText('No tokens yet').waitFor();
    await page.getByRole('button', { name: 'Generate token' }).click();
    const form = page.getByRole('dialog', { name: 'Generate access token' });
    await form.getByLabel('Token name').fill('  CI <img src=x onerror=alert(1)>  ');
    await form.getByRole('combobox', { name: 'Service' }).click();
    await page.getByRole('option', { name: 'Strings' }).click();
    await form.getByText('strings:read', { exact: true }).waitFor();
    await form.getByText('strings:write', { exact: true }).waitFor();
    const end = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeZone: 'Europe/Berlin' }).format(
      Date.now() + 730 * 86_400_000,
    );
    await form.getByText(`Expires on ${end}`).waitFor();
    await form.getByRole('button', { name: 'Generate', exact: true }).click();

    const shown = page.getByRole('dialog', { name: 'One-time access token display!' });
    await shown.getByText('You won’t be able to see it again').waitFor();
    await shown.getByRole('button', { name: 'Copy token' }).click();
    await shown.getByText('✓ Copied').waitFor();
    const answer = await page.evaluate(async () => {
      const subject = await navigator.clipboard.readText();
      const body = new URLSearchParams({
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        subject_token: subject,
      });
      const response = await fetch('/oauth/token', { method: 'POST', body });
      return { subject, status: response.status, body: await response.json() };
    });
    expect(answer.subject).toMatch(/^ptk_[0-9A-Za-z]{49}$/);
    expect(answer).toMatchObject({
      status: 200,
      body: { expires_in: 14_400, scope: 'strings:read strings:write' },
    });
    const { issuer } = stage.harness;
    const { payload } = await jwtVerify(
      answer.body.access_token,
      createRemoteJWKSet(new URL(`${issuer}/oauth/jwks`)),
      {
        issuer,
        audience: 'https://api.example.com/strings',
        typ: 'at+jwt',
      },
    );
    expect(payload).toMatchObject({ sub: user.id, org_id: organization.id });

    await shown.getByRole('button', { name: 'Copy command' }).click();
    await expect
      .poll(() => page.evaluate(() => navigator.clipboard.readText()))
      .toBe(
        `curl -d grant_type=urn:ietf:params:oauth:grant-type:token-exchange -d subject_token=${answer.subject} ${issuer}/oauth/token`,
      );
    await shown.getByRole('button', { name: 'I have saved the token' }).click();
    await shown.waitFor({ state: 'detached' });
    // Trimmed, and inert.
    await expectNames(page, 'CI <img src=x onerror=alert(1)>');
    expect(await page.locator('img[src=x]').count()).toBe(0);
    await page.getByText('1 of 20 tokens used').waitFor();
  });

  it('keeps the one-time window through stray keys and clicks, and warns before the token is lost', async () => {
    const page = await stage.openAs(user);
    await generate(page, 'Nightly');
    const shown = page.getByRole('dialog', { name: 'One-time access token display!' });
    await shown.waitFor();
    await page.keyboard.press('Escape');
    await page.mouse.click(5, 5);
    await page.mouse.click(1270, 890);
    const asked = page.waitForEvent('dialog').then(async (dialog) => {
      await dialog.dismiss();
      return dialog.type();
    });
    await page.goBack({ timeout: 2_000 }).catch(() => {});
    expect(await asked).toBe('beforeunload');
    expect(await shown.isVisible()).toBe(true);
    // A double click comes back to where it was.
    await shown.getByRole('button', { name: 'I have saved the token' }).dblclick();
    await page.waitForTimeout(300);
    expect(await shown.isVisible()).toBe(true);
    const close = shown.getByRole('button', { name: 'I have saved the token' });
    if (await close.isVisible()) await close.click();
    await shown.getByText('You haven’t copied the token.').waitFor();
    await shown.getByRole('button', { name: 'Close without copying' }).click();
    await shown.waitFor({ state: 'detached' });
  });

  it('lets no browser keep the token on its disk, to fill the field again after a crash', async () => {
    const page = await stage.openAs(user);
    await generate(page, 'Nightly');
    const fields = page.getByRole('dialog', { name: 'One-time access token display!' }).locator('textarea');
    await expect.poll(() => fields.count()).toBe(2);
    for (const field of await fields.all()) expect(await field.getAttribute('autocomplete')).toBe('off');
  });

  it('shows on a small phone what is asked when the token was not copied', async () => {
    const page = await stage.openAs(user, { viewport: { width: 375, height: 667 } });
    await generate(page, 'Nightly');
    const shown = page.getByRole('dialog', { name: 'One-time access token display!' });
    await shown.getByRole('button', { name: 'I have saved the token' }).click();
    const inView = (name: string) =>
      shown.getByText(name).evaluate((element) => {
        const { top, bottom, left } = element.getBoundingClientRect();
        const seen = document.elementFromPoint(left + 5, bottom - 2);
        return top >= 0 && bottom <= innerHeight && seen !== null && element.contains(seen);
      });
    for (const name of ['You haven’t copied the token.', 'Close without copying'])
      await expect.poll(() => inView(name)).toBe(true);
  });

  it('keeps what was typed when its window is closed, and stays while the answer is awaited', async () => {
    const page = await stage.openAs(user);
    await page.getByRole('button', { name: 'Generate token' }).click();
    const form = page.getByRole('dialog', { name: 'Generate access token' });
    await form.getByLabel('Token name').fill('Slow one');
    await form.getByRole('combobox', { name: 'Service' }).click();
    await page.getByRole('option', { name: 'TMS' }).click();
    await form.getByRole('button', { name: 'Cancel' }).click();
    await form.waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Generate token' }).click();
    expect(await form.getByLabel('Token name').inputValue()).toBe('Slow one');
    await page.route('**/admin/tokens', async (route) => {
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      await route.continue();
    });
    await form.getByRole('button', { name: 'Generate', exact: true }).click();
    await page.keyboard.press('Escape');
    expect(await form.getByRole('button', { name: 'Cancel' }).isDisabled()).toBe(true);
    expect(await form.isVisible()).toBe(true);
    await page.getByRole('dialog', { name: 'One-time access token display!' }).waitFor();
  });

  it('offers every service, however many there are', async () => {
    for (let n = 0; n < 120; n += 1) await stage.harness.build.service(`bulk-${String(n).padStart(3, '0')}`);
    const page = await stage.openAs(user);
    await page.getByRole('button', { name: 'Generate token' }).click();
    const field = page.getByRole('dialog').getByRole('combobox', { name: 'Service' });
    await field.click();
    await field.fill('tms');
    await page.getByRole('option', { name: 'TMS' }).waitFor();
    await field.fill('bulk-119');
    await page.getByRole('option', { name: 'bulk-119' }).waitFor();
    await stage.harness.database.knex('services').where('id', 'like', 'bulk-%').delete();
  });

  it('takes a percent sign in a search for what it is', async () => {
    await give('literal %41');
    const page = await stage.openAs(user);
    await page.getByLabel('Search by name').fill('%41');
    await page.waitForURL(/q=%2541/);
    await expectNames(page, 'literal %41');
    await page.reload();
    await expectNames(page, 'literal %41');
    expect(await page.getByLabel('Search by name').inputValue()).toBe('%41');
  });

  it('works where the browser remembers nothing', async () => {
    const page = await stage.open();
    await page.addInitScript(() => {
      Object.defineProperty(window, 'localStorage', {
        get() {
          throw new DOMException('no', 'SecurityError');
        },
      });
    });
    await page.goto('/dashboard');
    await signIn(page, user);
    await page.getByText('No tokens yet').waitFor();
  });

  it('selects the token where the browser does not allow copying', async () => {
    const page = await stage.openAs(user);
    await page.evaluate(() => {
      navigator.clipboard.writeText = () => Promise.reject(new DOMException('no', 'NotAllowedError'));
    });
    await generate(page, 'Nightly');
    await page.getByRole('button', { name: 'Copy token' }).click();
    await page.getByText('Your browser doesn’t allow copying').waitFor();
    const selected = await page.getByLabel('Your token').evaluate((element) => {
      const field = element as HTMLTextAreaElement;
      return field.value.slice(field.selectionStart, field.selectionEnd);
    });
    expect(selected).toMatch(/^ptk_\w{49}$/);
  });

  it('has the token nowhere once its window is closed', async () => {
    const page = await stage.openAs(user);
    await generate(page, 'Nightly');
    const secret = await page.getByLabel('Your token').inputValue();
    expect(secret).toMatch(/^ptk_\w{49}$/);
    const cdp = await page.context().newCDPSession(page);
    const isInHeap = async () => {
      let heap = '';
      const take = ({ chunk }: { chunk: string }) => {
        heap += chunk;
      };
      cdp.on('HeapProfiler.addHeapSnapshotChunk', take);
      await cdp.send('HeapProfiler.collectGarbage');
      await cdp.send('HeapProfiler.takeHeapSnapshot', { reportProgress: false });
      cdp.off('HeapProfiler.addHeapSnapshotChunk', take);
      expect(heap.length).toBeGreaterThan(1_000_000);
      return heap.includes(secret);
    };
    // It is found while it is there: so that not finding it says something.
    expect(await isInHeap()).toBe(true);
    await page.getByRole('button', { name: 'I have saved the token' }).click();
    await page.getByRole('button', { name: 'Close without copying' }).click();
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await expectNames(page, 'Nightly');
    await expect.poll(isInHeap, { timeout: 10_000, interval: 500 }).toBe(false);

    const elsewhere = await page.evaluate(async () => {
      const databases = await indexedDB.databases();
      const caches = await globalThis.caches.keys();
      return {
        html: document.documentElement.outerHTML,
        fields: [...document.querySelectorAll('input, textarea')].map(
          (field) => (field as HTMLInputElement).value,
        ),
        local: JSON.stringify(localStorage),
        session: JSON.stringify(sessionStorage),
        history: JSON.stringify(history.state),
        address: location.href,
        cookie: document.cookie,
        databases,
        caches,
      };
    });
    expect(JSON.stringify(elsewhere)).not.toContain(secret);
    expect(elsewhere).toMatchObject({ databases: [], caches: [], cookie: '' });
    expect(JSON.stringify(await page.context().cookies())).not.toContain(secret);
    expect(JSON.stringify(await page.context().storageState({ indexedDB: true }))).not.toContain(secret);
    expect(stage.harness.logs()).not.toContain(secret);
  });

  it('keeps its own access token out of storage, cookies and the address', async () => {
    const page = await stage.openAs(user);
    const state = JSON.stringify([
      await page.context().storageState({ indexedDB: true }),
      await page.evaluate(() => [{ ...localStorage }, { ...sessionStorage }, history.state, location.href]),
    ]);
    expect(state).not.toMatch(/eyJ/);
    expect(state).not.toContain('code=');
  });

  it('refuses a form with nothing in it, and a name of blanks', async () => {
    const page = await stage.openAs(user);
    await page.getByRole('button', { name: 'Generate token' }).click();
    const form = page.getByRole('dialog');
    await form.getByLabel('Token name').fill('   ');
    await form.getByRole('button', { name: 'Generate', exact: true }).click();
    await form.getByText('Give the token a name.').waitFor();
    await form.getByText('Choose a service.').waitFor();
    await form.getByLabel('Token name').fill('a\u202eb');
    await form.getByRole('combobox', { name: 'Service' }).click();
    await page.getByRole('option', { name: 'TMS' }).click();
    stage.expectedErrors.push('422');
    await form.getByRole('button', { name: 'Generate', exact: true }).click();
    await form.getByText('The name must be 1 to 100 visible characters.').waitFor();
    expect(await form.getByLabel('Token name').inputValue()).toBe('a\u202eb');
  });

  it('makes one token of a double click', async () => {
    const page = await stage.openAs(user);
    await page.route('**/admin/tokens', async (route) => {
      await new Promise((resolve) => setTimeout(resolve, 300));
      await route.continue();
    });
    await page.getByRole('button', { name: 'Generate token' }).click();
    const form = page.getByRole('dialog');
    await form.getByLabel('Token name').fill('Once');
    await form.getByRole('combobox', { name: 'Service' }).click();
    await page.getByRole('option', { name: 'TMS' }).click();
    await form.getByRole('button', { name: 'Generate', exact: true }).dblclick();
    await page.getByRole('dialog', { name: 'One-time access token display!' }).waitFor();
    const { total } = await stage.harness.stores.platformTokens.list(
      { all: true },
      { userId: user.id },
      { by: 'name', descending: false },
      { limit: 10 },
      new Date(),
    );
    expect(total).toBe(1);
  });

  it('explains itself at 20 tokens, also where another tab made the last one meanwhile', async () => {
    for (let n = 1; n <= 19; n += 1) await give(`Token ${n}`);
    const page = await stage.openAs(user);
    await page.getByText('19 of 20 tokens used').waitFor();
    await page.getByRole('button', { name: 'Generate token' }).click();
    const form = page.getByRole('dialog');
    await form.getByLabel('Token name').fill('One too many');
    await form.getByRole('combobox', { name: 'Service' }).click();
    await page.getByRole('option', { name: 'TMS' }).click();
    await give('Token 20');
    stage.expectedErrors.push('409');
    await form.getByRole('button', { name: 'Generate', exact: true }).click();
    await page.getByText('You have 20 active tokens in Acme, which is the limit.').waitFor();
    await form.getByRole('button', { name: 'Close' }).last().click();
    await page.getByText('20 of 20 tokens used').waitFor();
    await page.getByRole('button', { name: 'Generate token' }).click();
    await page.getByRole('dialog', { name: 'Token limit reached' }).waitFor();
  });

  it('searches, filters, sorts and pages, all of it in the address', async () => {
    const day = 86_400_000;
    const now = Date.now();
    await give('alpha 100%', { service: 'strings', createdAt: new Date(now - 3 * day) });
    await give('Beta', { createdAt: new Date(now - 2 * day) });
    await give('gamma', { createdAt: new Date(now - day) });
    await give('old', { createdAt: new Date(now - 731 * day) });
    await give('ending', { createdAt: new Date(now - 720 * day) });
    await give('gone', { revokedAt: new Date() });
    const page = await stage.openAs(user);
    await expectNames(page, 'gamma', 'Beta', 'alpha 100%', 'ending', 'old');
    await page.getByText('Expires in 9 days').waitFor();
    expect(await page.getByRole('row', { name: /old/ }).getByText('Expired').count()).toBe(1);

    await page.getByRole('button', { name: 'Name', exact: true }).click();
    await expectNames(page, 'alpha 100%', 'Beta', 'ending', 'gamma', 'old');
    expect(await page.getByRole('columnheader', { name: 'Name' }).getAttribute('aria-sort')).toBe(
      'ascending',
    );
    await page.getByRole('button', { name: 'Name', exact: true }).click();
    await expectNames(page, 'old', 'gamma', 'ending', 'Beta', 'alpha 100%');
    await page.getByRole('button', { name: 'Expires', exact: true }).click();
    await expectNames(page, 'old', 'ending', 'alpha 100%', 'Beta', 'gamma');

    await page.getByLabel('Search by name').fill('0%');
    await expectNames(page, 'alpha 100%');
    await page.getByLabel('Search by name').fill('A');
    await expectNames(page, 'alpha 100%', 'Beta', 'gamma');
    await page.getByRole('combobox', { name: 'Service' }).click();
    await page.getByRole('option', { name: 'TMS' }).click();
    await page.keyboard.press('Escape');
    await expectNames(page, 'Beta', 'gamma');
    const address = new URL(page.url());
    expect(Object.fromEntries(address.searchParams)).toEqual({
      q: 'A',
      service: 'tms',
      sort: 'expires_at',
      organization: organization.id,
    });

    await page.reload();
    await expectNames(page, 'Beta', 'gamma');
    expect(await page.getByLabel('Search by name').inputValue()).toBe('A');

    await page.getByLabel('Search by name').fill('zzz');
    await page.getByText('Nothing found').waitFor();
    await page.getByRole('button', { name: 'Clear search and filters' }).last().click();
    await expectNames(page, 'old', 'ending', 'alpha 100%', 'Beta', 'gamma');
    await page.getByRole('combobox', { name: 'Status' }).click();
    await page.getByRole('option', { name: 'Revoked' }).click();
    await page.keyboard.press('Escape');
    await expectNames(page, 'gone');
    expect(await page.getByLabel('Select gone').isDisabled()).toBe(true);
    await page.goBack();
    await expectNames(page, 'old', 'ending', 'alpha 100%', 'Beta', 'gamma');

    // What does not fit is left out.
    await page.goto(`${address.pathname}?sort=evil&status=x&status=revoked&service=<b>&cursor=`);
    await expectNames(page, 'gone');
  });

  it('pages forward and back, and says so where a page is gone', async () => {
    const createdAt = (n: number) => new Date(Date.now() - 740 * 86_400_000 + n * 1000);
    for (let n = 1; n <= 60; n += 1)
      await give(`Old ${String(n).padStart(2, '0')}`, { createdAt: createdAt(n) });
    const page = await stage.openAs(user);
    const first = async () => (await names(page))[0];
    await expect.poll(first).toBe('Old 60');
    await page.getByText('60 tokens').waitFor();
    await page.getByRole('button', { name: 'Next' }).click();
    await expect.poll(first).toBe('Old 35');
    await page.reload();
    await expect.poll(first).toBe('Old 35');
    await page.getByRole('button', { name: 'Next' }).click();
    await expect.poll(first).toBe('Old 10');
    expect(await page.getByRole('button', { name: 'Next' }).isDisabled()).toBe(true);
    await page.getByRole('button', { name: 'Previous' }).click();
    await expect.poll(first).toBe('Old 35');
    await page.getByRole('button', { name: 'Previous' }).click();
    await expect.poll(first).toBe('Old 60');
    stage.expectedErrors.push('400');
    await page.goto(`${new URL(page.url()).pathname}?cursor=nonsense`);
    // An old address: the first page instead.
    await expect.poll(first).toBe('Old 60');
    expect(new URL(page.url()).searchParams.has('cursor')).toBe(false);
  });

  it('never shows an older answer over a newer one', async () => {
    await give('first');
    await give('second');
    const page = await stage.openAs(user);
    await expectNames(page, 'second', 'first');
    await page.route(/\/admin\/tokens\?.*q=first/, async (route) => {
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      await route.continue().catch(() => {});
    });
    const search = page.getByLabel('Search by name');
    await search.fill('first');
    await page.waitForRequest(/q=first/);
    await search.fill('second');
    await expectNames(page, 'second');
    await page.waitForTimeout(2_000);
    expect(await names(page)).toEqual(['second']);
  });

  it('deletes three at once, naming them, and the token endpoint refuses them', async () => {
    const gone = [await give('one'), await give('two', { service: 'studio' }), await give('three')];
    const kept = await give('four');
    for (const { token } of gone) expect((await exchange(stage.harness.url, token)).status).toBe(200);
    const page = await stage.openAs(user);
    for (const name of ['one', 'two', 'three']) await page.getByLabel(`Select ${name}`).check();
    await page.getByText('3 selected').waitFor();
    await page.getByRole('button', { name: 'Delete', exact: true }).click();
    const dialog = page.getByRole('dialog', { name: 'Delete 3 tokens?' });
    expect(await dialog.getByRole('listitem').allTextContents()).toEqual([
      expect.stringContaining('three'),
      expect.stringMatching(/two.*Studio/),
      expect.stringContaining('one'),
    ]);
    await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
    await page.getByText('3 tokens deleted').waitFor();
    await expectNames(page, 'four');
    await page.getByText('1 of 20 tokens used').waitFor();
    for (const { token } of gone) {
      const refused = await exchange(stage.harness.url, token);
      expect(refused.status).toBe(400);
      expect(await refused.json()).toMatchObject({ error: 'invalid_request' });
    }
    expect((await exchange(stage.harness.url, kept.token)).status).toBe(200);
  });

  it('selects all on the page, and a cancelled deletion deletes nothing', async () => {
    await give('one');
    await give('two');
    const page = await stage.openAs(user);
    await page.getByLabel('Select all on this page').check();
    await page.getByText('2 selected').waitFor();
    await page.getByRole('button', { name: 'Delete', exact: true }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
    await page.getByRole('button', { name: 'Clear selection' }).click();
    await page.getByText('2 tokens').waitFor();
    await expectNames(page, 'two', 'one');
  });

  it('follows what another tab deletes, and reports what was deleted before', async () => {
    const one = await give('one');
    await give('two');
    const page = await stage.openAs(user);
    const other = await page.context().newPage();
    await other.goto(page.url());
    await expectNames(other, 'two', 'one');
    await page.bringToFront();
    await page.getByLabel('Select one').check();
    await page.getByLabel('Select two').check();
    await page.getByRole('button', { name: 'Delete', exact: true }).click();
    // Behind the back of this page altogether.
    await stage.harness.stores.platformTokens.revoke(
      { ids: [one.id] },
      { all: true },
      { actorId: 'x', at: new Date() },
    );
    await page.getByRole('dialog').getByRole('button', { name: 'Delete', exact: true }).click();
    await page.getByText('1 token deleted').waitFor();
    await page.getByText('1 was deleted before.').waitFor();
    await page.getByText('No tokens yet').waitFor();
    await other.getByText('No tokens yet').waitFor();
  });

  it('shows the details and the trail of a token, with exact times', async () => {
    const { id } = await give('traced');
    const { organization_id, service_id } = await stage.harness.database
      .knex('platform_tokens')
      .where({ id })
      .first();
    await stage.harness.stores.exchangeEvents.insert([
      {
        id: uuidv7(),
        at: new Date(),
        organizationId: organization_id,
        tokenId: id,
        serviceId: service_id,
        ip: '127.0.0.1',
        userAgent: 'connector/1.2 <b>x</b>',
        requestId: null,
        count: 12,
      },
    ]);
    const page = await stage.openAs(user);
    await page.getByRole('button', { name: 'traced', exact: true }).click();
    const details = page.getByRole('dialog', { name: 'traced' });
    await details.getByText('tms:read tms:write').waitFor();
    await details.getByText('Exchanged for a JWT').waitFor();
    await details.getByText('12 times · IP 127.0.0.1 · connector/1.2 <b>x</b>').waitFor();
    expect(await details.locator('time').first().textContent()).toMatch(
      /\(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)$/,
    );
    await page.keyboard.press('Escape');
    await details.waitFor({ state: 'detached' });
    expect(new URL(page.url()).searchParams.get('token')).toBe(null);
    stage.expectedErrors.push('404');
    await page.goto(`${new URL(page.url()).pathname}?token=019ab000-0000-7000-8000-00000000dead`);
    await page.getByText('This token does not exist, or you don’t have access to it.').waitFor();
  });

  it('speaks German where the browser does, and remembers the choice', async () => {
    await give('eins');
    const page = await stage.openAs(user, { locale: 'de-AT' });
    await page.getByRole('button', { name: 'Token erzeugen' }).waitFor();
    await page.getByText('1 von 20 Tokens verwendet').waitFor();
    expect(await page.locator('html').getAttribute('lang')).toBe('de');
    await page.getByRole('button', { name: /Benutzermenü/ }).click();
    await page.getByRole('menuitemradio', { name: 'English' }).click();
    await page.getByRole('button', { name: 'Generate token' }).waitFor();
    await page.reload();
    await page.getByRole('button', { name: 'Generate token' }).waitFor();
  });
});
