import type { BrowserContextOptions, Page } from 'playwright-core';
import { beforeAll, describe, it } from 'vitest';
import { createStage, describeInBrowser } from './support/dashboard.ts';
import { longName, markupName, type Scene, setScene } from './support/scene.ts';
import { createViewer, type Language, type View, viewNamed, views } from './support/views.ts';

interface Album {
  readonly directory: string;
  readonly views: readonly View[];
  readonly options: BrowserContextOptions;
  readonly language?: Language;
}

const desktop = { width: 1280, height: 900 };
const albums: readonly Album[] = [
  { directory: 'light', views, options: { colorScheme: 'light', viewport: desktop } },
  { directory: 'dark', views, options: { colorScheme: 'dark', viewport: desktop } },
  {
    directory: 'phone',
    views,
    options: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true },
  },
  {
    directory: 'german',
    views: ['own list', 'generate', 'members’ list'].map(viewNamed),
    options: { viewport: desktop },
    language: 'de',
  },
  {
    directory: 'wide',
    views: ['own list', 'nothing found', 'members’ list', 'token details', 'account'].map(viewNamed),
    options: { viewport: { width: 1920, height: 1080 } },
  },
];

describeInBrowser('pictures', () => {
  const stage = createStage({ sharesPages: true });
  let scene: Scene;

  beforeAll(async () => {
    scene = await setScene(stage);
  });

  describe.each(albums)('$directory', ({ directory, views, options, language }) => {
    const show = createViewer(stage, options, language);

    it.each(views)('$name', async (view) => {
      const page = await show(view, scene);
      const path = `screenshots/${directory}/${view.name.replaceAll(/\W+/g, '-')}.png`;
      // What lies over the page stays where it is.
      const fullPage = (await page.getByRole('dialog').count()) === 0;
      await page.screenshot({ path, fullPage, animations: 'disabled' });
    });
  });

  describe('for the README', () => {
    const show = createViewer(stage, {
      colorScheme: 'light',
      viewport: { width: 1216, height: 592 },
      deviceScaleFactor: 0.75,
    });

    it('own list', async () => {
      const page = await show(viewNamed('own list'), scene);
      await removeTestNames(page);
      await page.screenshot({ path: 'docs/images/own-list.png' });
    });

    it('one-time token', async () => {
      const page = await show(viewNamed('one-time token'), scene);
      await removeTestNames(page);
      await page
        .locator('textarea')
        .last()
        .evaluate((field) => {
          const command = field as HTMLTextAreaElement;
          command.value = command.value.replace(location.origin, 'https://id.example.com');
        });
      await page.screenshot({ path: 'docs/images/one-time-token.png' });
    });
  });
});

async function removeTestNames(page: Page): Promise<void> {
  for (const hasText of [markupName, longName]) {
    const row = page.locator('tbody tr').filter({ hasText });
    await row.evaluate((element) => element.remove());
  }
}
