import type { Page } from 'playwright-core';
import { beforeEach, expect, it } from 'vitest';
import { exchange } from '../support/harness.ts';
import { createStage, describeInBrowser, type Person, password } from './support/dashboard.ts';

describeInBrowser("an organization's admin", () => {
  const stage = createStage();
  let organization: { id: string };
  let admin: Person;
  let member: Person;

  beforeEach(async () => {
    organization = await stage.harness.build.organization('Acme');
    admin = await stage.harness.build.user({ organizationId: organization.id, role: 'admin', password });
    member = await stage.harness.build.user({ organizationId: organization.id, password });
  });

  const tms = () => {
    const found = stage.services.get('tms');
    if (!found) throw new Error('no service');
    return found;
  };
  const give = (owner: Person, name: string, organizationId = organization.id) =>
    stage.harness.build.platformToken({ organizationId, userId: owner.id, name, service: tms() });
  const nameOf = async ({ id }: Person) => String((await stage.harness.stores.users.find(id))?.name);
  const names = (page: Page) => page.locator('tbody tr td:nth-child(2)').allTextContents();
  const expectNames = (page: Page, ...wanted: string[]) => expect.poll(() => names(page)).toEqual(wanted);

  async function openMembers(): Promise<Page> {
    const page = await stage.openAs(admin);
    await page.getByRole('link', { name: 'Members’ tokens' }).click();
    await page.getByRole('heading', { level: 1, name: 'Members’ access tokens' }).waitFor();
    return page;
  }

  async function chooseMember(page: Page, person: Person): Promise<void> {
    const field = page.getByRole('combobox', { name: 'Member' });
    await field.click();
    await field.fill(person.email);
    await page.getByRole('option', { name: new RegExp(person.email) }).click();
  }

  it('sees whose token each is, and their own list holds only their own', async () => {
    await give(member, 'of the member');
    await give(admin, 'of the admin');
    const page = await openMembers();
    await expectNames(page, 'of the admin', 'of the member');
    const row = page.getByRole('row', { name: /of the member/ });
    await row.getByText(await nameOf(member), { exact: true }).waitFor();
    await page.getByRole('link', { name: 'Profile' }).click();
    await expectNames(page, 'of the admin');
  });

  it('revokes one with a reason that the trail tells, and by whom', async () => {
    const { id, token } = await give(member, 'leaked');
    await exchange(stage.harness.url, token);
    const page = await openMembers();
    await page.getByRole('button', { name: 'Revoke leaked' }).click();
    const dialog = page.getByRole('dialog', { name: 'Revoke this token?' });
    await dialog.getByLabel('Reason').fill('found in a <b>public</b> repository');
    await dialog.getByRole('button', { name: 'Revoke', exact: true }).click();
    await page.getByText('1 token revoked').waitFor();
    expect((await exchange(stage.harness.url, token)).status).toBe(400);
    const recorded = () => stage.harness.database.knex('exchange_events').where({ token_id: id });
    await expect.poll(recorded).toHaveLength(1);

    await page.getByRole('combobox', { name: 'Status' }).click();
    await page.getByRole('option', { name: 'Revoked' }).click();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'leaked', exact: true }).click();
    const details = page.getByRole('dialog', { name: 'leaked' });
    await details.getByText('Reason: found in a <b>public</b> repository').waitFor();
    await details.getByText('by you · IP 127.0.0.1').waitFor();
    await details.getByText('Exchanged for a JWT').waitFor();
    await details.getByText(`${await nameOf(member)} (${member.email})`).waitFor();
  });

  it("revokes all of one member's, on other pages too, and nobody else's", async () => {
    const theirs = await Promise.all(Array.from({ length: 30 }, (_, n) => give(member, `Job ${n}`)));
    const others = await give(admin, 'stays');
    const elsewhere = await stage.harness.build.organization('Elsewhere');
    await stage.harness.stores.memberships.put(elsewhere.id, member.id, 'member', new Date());
    const abroad = await give(member, 'abroad', elsewhere.id);
    const page = await openMembers();
    await chooseMember(page, member);
    await page.getByText('30 tokens', { exact: true }).waitFor();
    expect(new URL(page.url()).searchParams.get('user')).toBe(member.id);
    await page.getByRole('button', { name: 'Revoke all tokens of this member' }).click();
    const dialog = page.getByRole('dialog', { name: `Revoke all tokens of ${await nameOf(member)}?` });
    await dialog.getByLabel('Reason').fill('left the company');
    await dialog.getByRole('button', { name: 'Revoke', exact: true }).click();
    await page.getByText('30 tokens revoked').waitFor();
    await page.getByText('Nothing found').waitFor();
    const first = theirs[0];
    expect((await exchange(stage.harness.url, String(first?.token))).status).toBe(400);
    for (const { token } of [others, abroad])
      expect((await exchange(stage.harness.url, token)).status).toBe(200);
    const events = await stage.harness.database
      .knex('audit_events')
      .where({ action: 'token.revoked', organization_id: organization.id, reason: 'left the company' });
    expect(events).toHaveLength(30);
  });

  it('is told the truth where they are an admin no longer', async () => {
    const { token } = await give(member, 'survives');
    const page = await openMembers();
    await page.getByRole('button', { name: 'Revoke survives' }).click();
    await stage.harness.stores.memberships.put(organization.id, admin.id, 'member', new Date());
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke', exact: true }).click();
    await page.getByText('the tokens of its members are for its admins').first().waitFor();
    expect(await page.getByText('Nothing was left').count()).toBe(0);
    expect((await exchange(stage.harness.url, token)).status).toBe(200);
  });

  it('is named to the member whose token they revoked', async () => {
    const { id } = await give(member, 'taken away');
    const revoked = await fetch(`${stage.harness.url}/admin/tokens/${id}`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${await stage.harness.build.userJwt(admin.id)}` },
    });
    expect(revoked.status).toBe(204);
    const page = await stage.openAs(member);
    await page.goto(`/dashboard/settings/profile/access-tokens?status=revoked&token=${id}`);
    await page.getByText('by an admin of the organization').waitFor();
  });

  it('sees that names are on their way, or did not come, and never a former member instead', async () => {
    await give(member, 'whose');
    const page = await stage.openAs(admin);
    await page.route(/\/members\?/, (route) =>
      route.fulfill({ status: 500, json: { type: 'x', title: 'x', status: 500 } }),
    );
    stage.expectedErrors.push('500');
    await page.getByRole('link', { name: 'Members’ tokens' }).click();
    await page.getByRole('cell', { name: member.id }).waitFor();
    expect(await page.getByText('a former member').count()).toBe(0);
  });

  it('keeps to the organization of the page, whatever another tab chooses', async () => {
    const second = await stage.harness.build.organization('Zeta');
    await stage.harness.stores.memberships.put(second.id, admin.id, 'member', new Date());
    const { id } = await give(admin, 'in Zeta', second.id);
    const page = await stage.openAs(admin);
    const other = await page.context().newPage();
    await other.goto(`/dashboard/settings/profile/access-tokens?organization=${second.id}`);
    await expectNames(other, 'in Zeta');
    await page.bringToFront();
    await page.getByLabel('Search by name').fill('x');
    await page.getByText('Nothing found').waitFor();
    expect(new URL(page.url()).searchParams.get('organization')).toBe(organization.id);
    // A token of another organization is not shown under this one.
    await page.goto(`/dashboard/settings/profile/access-tokens?organization=${organization.id}&token=${id}`);
    await page.getByText('This token does not exist').waitFor();
  });

  it('finds a member by a part of the name, and shares the view by its address', async () => {
    await give(member, 'of the member');
    await give(admin, 'of the admin');
    const page = await openMembers();
    await chooseMember(page, member);
    await expectNames(page, 'of the member');
    const shared = page.url();
    await page.goto('/dashboard');
    await page.goto(shared);
    await expectNames(page, 'of the member');
    expect(await page.getByRole('combobox', { name: 'Member' }).inputValue()).toContain(member.email);
  });

  it('shows each organization its own tokens, and remembers which one was chosen', async () => {
    const second = await stage.harness.build.organization('Zeta');
    await stage.harness.stores.memberships.put(second.id, admin.id, 'member', new Date());
    await give(admin, 'in Acme');
    await give(admin, 'in Zeta', second.id);
    const page = await stage.openAs(admin);
    await expectNames(page, 'in Acme');
    await page.getByRole('button', { name: 'Organization: Acme. Switch' }).click();
    await page.getByRole('menuitemradio', { name: 'Zeta' }).click();
    await expectNames(page, 'in Zeta');
    // There they are no admin.
    expect(await page.getByRole('link', { name: 'Members’ tokens' }).count()).toBe(0);
    expect(new URL(page.url()).searchParams.get('organization')).toBe(second.id);
    await page.goto('/dashboard');
    await expectNames(page, 'in Zeta');
    await page.goto(`/dashboard/settings/members/access-tokens?organization=${second.id}`);
    await page.getByText('You don’t have access').waitFor();
    await page.goto(
      '/dashboard/settings/profile/access-tokens?organization=019ab000-0000-7000-8000-00000000dead',
    );
    await page.getByText('You don’t have access').waitFor();
  });

  it('reaches the last of many organizations', async () => {
    for (let n = 0; n < 60; n += 1) {
      const { id } = await stage.harness.build.organization(`Organization ${String(n).padStart(2, '0')}`);
      await stage.harness.stores.memberships.put(id, member.id, 'member', new Date());
    }
    const page = await stage.openAs(member);
    await page.getByRole('button', { name: /^Organization: / }).click();
    const menu = page.getByRole('menu');
    const { height = 0 } = (await menu.boundingBox()) ?? {};
    expect(height).toBeLessThan(900);
    expect(await menu.evaluate((element) => element.scrollHeight > element.clientHeight)).toBe(true);
    await page.getByRole('menuitemradio', { name: 'Organization 59' }).click();
    await page.getByRole('button', { name: 'Organization: Organization 59. Switch' }).waitFor();
  });

  it('is nobody special to the page alone: a member gets nothing by its address', async () => {
    const { id } = await give(admin, 'secret project');
    const page = await stage.openAs(member);
    expect(await page.getByRole('link', { name: 'Members’ tokens' }).count()).toBe(0);
    await page.goto('/dashboard/settings/members/access-tokens');
    await page.getByText('You don’t have access').waitFor();
    stage.expectedErrors.push('404');
    await page.goto(`/dashboard/settings/profile/access-tokens?token=${id}`);
    await page.getByText('This token does not exist, or you don’t have access to it.').waitFor();
    expect(await page.getByText('secret project').count()).toBe(0);
  });
});
