import type { BrowserContextOptions } from 'playwright-core';
import { beforeAll, describe, it } from 'vitest';
import { createStage, describeInBrowser } from './support/dashboard.ts';
import { type Scene, setScene } from './support/scene.ts';
import { createViewer, type Language, type View, viewNamed, views } from './support/views.ts';

interface Album {
  /** Below `screenshots/`, which is not kept; `docs/images/` is. */
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
  {
    // Small, for the README.
    directory: '../docs/images',
    views: ['own list', 'one-time token'].map(viewNamed),
    options: { colorScheme: 'light', viewport: { width: 1024, height: 640 } },
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
      const isSmall = directory.startsWith('..');
      const fullPage = !isSmall && (await page.getByRole('dialog').count()) === 0;
      await page.screenshot({ path, fullPage, animations: 'disabled' });
    });
  });
});
