import type { BrowserContextOptions, Page, Route } from 'playwright-core';
import { german } from '../../../dashboard/src/texts/de.ts';
import { english, type Texts } from '../../../dashboard/src/texts/en.ts';
import { createPlatformToken } from '../../../server/domain/platform-token.ts';
import { type Stage, signIn } from './dashboard.ts';
import type { Scene, Who } from './scene.ts';

const languages = {
  en: { texts: english, locale: 'en-GB' },
  de: { texts: german, locale: 'de-DE' },
};
export type Language = keyof typeof languages;

/** Something that a person gets to see: a view, or a window over one. */
export interface View {
  readonly name: string;
  readonly who: Who;
  /** What its document is called, before the product's name. */
  readonly title: (texts: Texts) => string;
  /** From a blank page of a browser where `who` is signed in. */
  readonly arrive: (page: Page, scene: Scene, texts: Texts) => Promise<unknown>;
  /** Parts of what the browser logs as errors on the way. */
  readonly errors?: readonly string[];
}

/**
 * Shows views, in a page for each person that looks at them.
 * @param stage one that shares pages
 */
export function createViewer(stage: Stage, options: BrowserContextOptions = {}, language: Language = 'en') {
  const { texts, locale } = languages[language];
  const pages = new Map<Who, Page>();

  async function open(who: Who, scene: Scene): Promise<Page> {
    const all = { locale, reducedMotion: 'reduce' as const, ...options };
    const page = who === 'nobody' ? await stage.open(all) : await stage.openAs(scene.people[who], all);
    pages.set(who, page);
    return page;
  }

  return async (view: View, scene: Scene): Promise<Page> => {
    const page = pages.get(view.who) ?? (await open(view.who, scene));
    await page.unrouteAll({ behavior: 'ignoreErrors' });
    await page.goto('about:blank');
    stage.expectedErrors.push(...(view.errors ?? []));
    await view.arrive(page, scene, texts);
    return page;
  };
}

const own = '/dashboard/settings/profile/access-tokens';
const ofMembers = '/dashboard/settings/members/access-tokens';

const titles = {
  own: (texts: Texts) => texts.accessTokens,
  members: (texts: Texts) => texts.membersTokens,
  signIn: (texts: Texts) => texts.signIn,
  noPermission: (texts: Texts) => texts.noPermission,
};

const answerWith = (status: number) => (route: Route) =>
  route.fulfill({
    status,
    contentType: 'application/problem+json',
    body: JSON.stringify({ type: 'about:blank', title: 'A fault', status }),
  });
const answerNever = () => {};
const list = '**/admin/tokens?*';

/** Of the right form and nobody's. */
export const madeUpToken = createPlatformToken(
  'ptk',
  readBase62('0ThisTokenIsMadeUpAndOpensNothingWhatsoever'),
).token;

function readBase62(text: string): Buffer {
  const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
  const value = [...text].reduce((sum, character) => sum * 62n + BigInt(alphabet.indexOf(character)), 0n);
  return Buffer.from(value.toString(16).padStart(64, '0'), 'hex');
}

async function openOwn(page: Page, query = ''): Promise<void> {
  await page.goto(own + query);
  await page.locator('tbody tr').first().waitFor();
}

async function openGenerate(page: Page, texts: Texts, name: string): Promise<void> {
  await openOwn(page);
  await page.getByRole('button', { name: texts.generateToken }).click();
  await page.getByLabel(texts.tokenName).fill(name);
}

async function openServices(page: Page, texts: Texts): Promise<void> {
  await page.getByRole('dialog').getByRole('combobox', { name: texts.service }).click();
  await page.getByRole('option', { name: 'Strings' }).waitFor();
}

async function chooseService(page: Page, texts: Texts): Promise<void> {
  await openServices(page, texts);
  await page.getByRole('option', { name: 'Strings' }).click();
  await page.getByText('strings:write').waitFor();
}

const submit = (page: Page, texts: Texts) =>
  page.getByRole('dialog').getByRole('button', { name: texts.generate, exact: true }).click();

async function openMembers(page: Page, { organizations }: Scene, query = ''): Promise<void> {
  await page.goto(`${ofMembers}?organization=${organizations.busy.id}${query}`);
  await page.locator('tbody tr').first().waitFor();
}

async function select(page: Page, texts: Texts, count: number): Promise<void> {
  await openOwn(page);
  for (let row = 0; row < count; row += 1) await page.locator('tbody input').nth(row).check();
  await page.getByText(texts.selected(count), { exact: true }).waitFor();
}

async function openDeletion(page: Page, texts: Texts): Promise<void> {
  await select(page, texts, 3);
  await page.getByRole('button', { name: texts.deleteOne, exact: true }).click();
  await page.getByRole('dialog').getByText(texts.willStop(false)).waitFor();
}

/** Makes the page ask for its list. */
async function ask(page: Page): Promise<void> {
  await page.locator('search input').first().fill('a');
}

const heading = (page: Page, name: string) => page.getByRole('heading', { name }).waitFor();
const dialog = (page: Page, name: string) => page.getByRole('dialog', { name }).waitFor();

export const views: readonly View[] = [
  {
    name: 'sign-in',
    who: 'nobody',
    title: titles.signIn,
    arrive: async (page) => {
      await page.goto('/dashboard');
      await page.waitForURL(/\/oauth\/sign-in\//);
    },
  },
  {
    name: 'sign-in refused',
    who: 'nobody',
    title: titles.signIn,
    errors: ['422'],
    arrive: async (page) => {
      await page.goto('/dashboard');
      await signIn(page, { id: '', email: 'nobody@example.com' });
      await page.getByRole('alert').waitFor();
    },
  },
  {
    name: 'sign-in gone',
    who: 'nobody',
    title: (texts) => (texts === english ? 'This sign-in has ended' : 'Diese Anmeldung ist beendet'),
    errors: ['400'],
    arrive: (page) => page.goto('/oauth/sign-in/none'),
  },
  {
    name: 'sign-out question',
    who: 'member',
    title: (texts) => texts.signOut,
    arrive: (page) => page.goto('/oauth/logout'),
  },
  {
    name: 'signed out',
    who: 'nobody',
    title: (texts) => texts.signedOutTitle,
    arrive: async (page, _scene, texts) => {
      await page.goto('/dashboard/signed-out');
      await heading(page, texts.signedOutTitle);
    },
  },
  {
    name: 'sign-in failed',
    who: 'member',
    title: (texts) => texts.signInFailed,
    errors: ['ERR_FAILED'],
    arrive: async (page, _scene, texts) => {
      await page.route('**/oauth/authorize*', (route) => route.abort());
      await page.goto(own);
      await heading(page, texts.signInFailed);
    },
  },
  {
    name: 'starting',
    who: 'member',
    title: (texts) => texts.loading,
    arrive: async (page, _scene, texts) => {
      await page.route('**/admin/me', answerNever);
      await page.goto(own);
      await page.getByLabel(texts.loading).waitFor();
    },
  },
  {
    name: 'own list',
    who: 'member',
    title: titles.own,
    arrive: (page) => openOwn(page),
  },
  {
    name: 'own list empty',
    who: 'admin',
    title: titles.own,
    arrive: async (page, { organizations }, texts) => {
      await page.goto(`${own}?organization=${organizations.quiet.id}`);
      await heading(page, texts.noTokens);
    },
  },
  {
    name: 'own list filtered',
    who: 'member',
    title: titles.own,
    arrive: (page) =>
      openOwn(
        page,
        '?q=s&service=tms&service=strings&service=connectors&status=active&status=expired&status=revoked',
      ),
  },
  {
    name: 'nothing found',
    who: 'member',
    title: titles.own,
    arrive: async (page, _scene, texts) => {
      await page.goto(`${own}?q=zzz`);
      await heading(page, texts.nothingFound);
    },
  },
  {
    name: 'selection',
    who: 'member',
    title: titles.own,
    arrive: (page, _scene, texts) => select(page, texts, 2),
  },
  {
    name: 'generate',
    who: 'member',
    title: titles.own,
    arrive: async (page, _scene, texts) => {
      await openGenerate(page, texts, 'Build server');
      await chooseService(page, texts);
    },
  },
  {
    name: 'generate refused',
    who: 'member',
    title: titles.own,
    arrive: async (page, _scene, texts) => {
      await openGenerate(page, texts, ' ');
      await submit(page, texts);
      await page.getByText(texts.serviceMissing).waitFor();
    },
  },
  {
    name: 'no such service',
    who: 'member',
    title: titles.own,
    arrive: async (page, _scene, texts) => {
      await openGenerate(page, texts, 'Build server');
      await page.getByRole('dialog').getByRole('combobox', { name: texts.service }).fill('zzz');
      await page.getByRole('option', { name: texts.nothingFound }).waitFor();
    },
  },
  {
    name: 'generate unanswered',
    who: 'member',
    title: titles.own,
    errors: ['ERR_FAILED'],
    arrive: async (page, _scene, texts) => {
      await openGenerate(page, texts, 'Build server');
      await chooseService(page, texts);
      await page.route('**/admin/tokens', (route) => route.abort());
      await submit(page, texts);
      await page.getByRole('alert').waitFor();
    },
  },
  {
    name: 'services open',
    who: 'member',
    title: titles.own,
    arrive: async (page, _scene, texts) => {
      await openGenerate(page, texts, 'Build server');
      await openServices(page, texts);
    },
  },
  {
    name: 'one-time token',
    who: 'member',
    title: titles.own,
    arrive: async (page, _scene, texts) => {
      await page.route('**/admin/tokens', (route) =>
        route.fulfill({ status: 201, contentType: 'application/json', json: { token: madeUpToken } }),
      );
      await openGenerate(page, texts, 'Build server');
      await chooseService(page, texts);
      await submit(page, texts);
      await dialog(page, texts.oneTimeTitle);
    },
  },
  {
    name: 'one-time token not copied',
    who: 'member',
    title: titles.own,
    arrive: async (page, scene, texts) => {
      await viewNamed('one-time token').arrive(page, scene, texts);
      await page.getByRole('button', { name: texts.closeToken }).click();
      await page.getByText(texts.notCopied).waitFor();
    },
  },
  {
    name: 'limit reached',
    who: 'admin',
    title: titles.own,
    arrive: async (page, { organizations }, texts) => {
      await openOwn(page, `?organization=${organizations.busy.id}`);
      await page.getByRole('button', { name: texts.generateToken }).click();
      await dialog(page, texts.limitTitle);
    },
  },
  {
    name: 'delete three',
    who: 'member',
    title: titles.own,
    arrive: (page, _scene, texts) => openDeletion(page, texts),
  },
  {
    name: 'deleted',
    who: 'member',
    title: titles.own,
    arrive: async (page, _scene, texts) => {
      await page.route('**/admin/tokens/revoke', (route) =>
        route.fulfill({ json: { revoked: 2, not_found: [] } }),
      );
      await openDeletion(page, texts);
      await page.getByRole('dialog').getByRole('button', { name: texts.deleteOne, exact: true }).click();
      // Stays for as long as the pointer is on it.
      await page.getByText(texts.deletedBefore(1)).hover();
    },
  },
  {
    name: 'token details',
    who: 'member',
    title: titles.own,
    arrive: async (page, { revokedTokenId }, texts) => {
      await openOwn(page, `?token=${revokedTokenId}`);
      await page
        .getByText(texts.actionNames['token.created'] ?? '', { exact: true })
        .last()
        .waitFor();
      await page.getByText(texts.reason).waitFor();
    },
  },
  {
    name: 'token gone',
    who: 'member',
    title: titles.own,
    errors: ['404'],
    arrive: async (page, _scene, texts) => {
      await openOwn(page, '?token=019ab000-0000-7000-8000-000000000000');
      await page.getByText(texts.tokenGone).waitFor();
    },
  },
  {
    name: 'members’ list',
    who: 'admin',
    title: titles.members,
    arrive: async (page, scene) => {
      await openMembers(page, scene);
      await page.getByRole('cell').getByText(scene.people.member.name).first().waitFor();
    },
  },
  {
    name: 'member filter open',
    who: 'admin',
    title: titles.members,
    arrive: async (page, scene, texts) => {
      await openMembers(page, scene);
      await page.getByRole('combobox', { name: texts.member }).fill('a');
      await page.getByRole('option', { name: scene.people.member.name }).waitFor();
    },
  },
  {
    name: 'member filter finds nobody',
    who: 'admin',
    title: titles.members,
    arrive: async (page, scene, texts) => {
      await openMembers(page, scene);
      await page.getByRole('combobox', { name: texts.member }).fill('zzz');
      await page.getByRole('option', { name: texts.nothingFound }).waitFor();
    },
  },
  {
    name: 'revoke all of a member',
    who: 'admin',
    title: titles.members,
    arrive: async (page, scene, texts) => {
      await openMembers(page, scene, `&user=${scene.people.member.id}`);
      await page.getByRole('button', { name: texts.revokeAll }).click();
      await page.getByLabel(texts.reason).fill('Left the company at the end of the month.');
    },
  },
  {
    name: 'user menu open',
    who: 'member',
    title: titles.own,
    arrive: async (page, { people }, texts) => {
      await openOwn(page);
      await page.getByRole('button', { name: texts.userMenu(people.member.name) }).click();
      await page.getByRole('menuitem', { name: texts.signOut }).waitFor();
    },
  },
  {
    name: 'organization switcher open',
    who: 'admin',
    title: titles.own,
    arrive: async (page, { organizations }, texts) => {
      await openOwn(page, `?organization=${organizations.busy.id}`);
      await page.getByRole('button', { name: texts.switchOrganization(organizations.busy.name) }).click();
      await page.getByRole('menuitemradio', { name: organizations.quiet.name }).waitFor();
    },
  },
  {
    name: 'account',
    who: 'admin',
    title: (texts) => texts.account,
    arrive: async (page, { people }) => {
      await page.goto('/dashboard/settings/profile');
      await page.getByText(people.admin.email).waitFor();
    },
  },
  {
    name: 'no permission',
    who: 'member',
    title: titles.noPermission,
    arrive: async (page, _scene, texts) => {
      await page.goto(ofMembers);
      await heading(page, texts.noPermission);
    },
  },
  {
    name: 'foreign organization',
    who: 'member',
    title: titles.noPermission,
    arrive: async (page, { organizations }, texts) => {
      await page.goto(`${own}?organization=${organizations.quiet.id}`);
      await heading(page, texts.noPermission);
    },
  },
  {
    name: 'no organization',
    who: 'guest',
    title: (texts) => texts.noOrganization,
    arrive: async (page, _scene, texts) => {
      await page.goto(own);
      await heading(page, texts.noOrganization);
    },
  },
  {
    name: 'not found',
    who: 'member',
    title: (texts) => texts.notFound,
    arrive: async (page, _scene, texts) => {
      await page.goto('/dashboard/elsewhere');
      await heading(page, texts.notFound);
    },
  },
  {
    name: 'session expired',
    who: 'member',
    title: titles.own,
    errors: ['401'],
    arrive: async (page, _scene, texts) => {
      await openOwn(page);
      const cookies = await page.context().cookies();
      await page.context().clearCookies();
      await page.route(list, answerWith(401));
      await ask(page);
      await dialog(page, texts.expiredTitle);
      // For the views after this one.
      await page.context().addCookies(cookies);
    },
  },
  {
    name: 'server away',
    who: 'member',
    title: titles.own,
    errors: ['ERR_FAILED'],
    arrive: async (page, _scene, texts) => {
      await openOwn(page);
      for (const path of ['**/admin/**', '**/health/ready']) await page.route(path, (route) => route.abort());
      await ask(page);
      await page.getByText(texts.away).waitFor();
    },
  },
  {
    name: 'loading',
    who: 'member',
    title: titles.own,
    arrive: async (page, _scene, texts) => {
      await page.route(list, answerNever);
      await page.goto(own);
      await page.locator('#content').getByLabel(texts.loading).waitFor();
    },
  },
  {
    name: 'list failed',
    who: 'member',
    title: titles.own,
    errors: ['500'],
    arrive: async (page, _scene, texts) => {
      await page.route(list, answerWith(500));
      await page.goto(own);
      await heading(page, texts.failed);
    },
  },
  {
    name: 'list out of date',
    who: 'member',
    title: titles.own,
    errors: ['500'],
    arrive: async (page, _scene, texts) => {
      await openOwn(page);
      await page.route(list, answerWith(500));
      // As another tab says it.
      await page.evaluate(() => {
        new BroadcastChannel('platform-tokens /dashboard').postMessage({ type: 'tokens-changed' });
      });
      await page.getByText(texts.outOfDate).waitFor();
    },
  },
  {
    name: 'everything failed',
    who: 'member',
    title: (texts) => texts.failed,
    errors: ['500'],
    arrive: async (page, _scene, texts) => {
      await page.route('**/admin/me', answerWith(500));
      await page.goto(own);
      await heading(page, texts.failed);
    },
  },
  {
    name: 'page broken',
    who: 'member',
    title: (texts) => texts.unexpected,
    errors: ['TypeError', 'undefined'],
    arrive: async (page, _scene, texts) => {
      await page.route(list, (route) => route.fulfill({ json: { data: [{}], next_cursor: null, total: 1 } }));
      await page.goto(own);
      await heading(page, texts.unexpected);
    },
  },
];

export function viewNamed(name: string): View {
  const view = views.find((one) => one.name === name);
  if (!view) throw new Error(`no view ${name}`);
  return view;
}
