import type axe from 'axe-core';
import { source as axeSource } from 'axe-core';
import type { Page } from 'playwright-core';
import { beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { english } from '../../dashboard/src/texts/en.ts';
import { createStage, describeInBrowser } from './support/dashboard.ts';
import { type Scene, setScene } from './support/scene.ts';
import { createViewer, viewNamed, views } from './support/views.ts';

const tags = ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice'];
const desktop = { width: 1280, height: 900 };
/** Both colour schemes and both layouts: colours are of the scheme alone. */
const schemes = [
  { scheme: 'light', colorScheme: 'light', viewport: desktop },
  { scheme: 'dark, phone', colorScheme: 'dark', viewport: { width: 390, height: 844 } },
] as const;

async function violationsOf(page: Page) {
  const isThere = await page.evaluate(() => 'axe' in globalThis);
  if (!isThere) await page.evaluate(axeSource);
  const { violations } = await page.evaluate(
    (runOnly) =>
      (globalThis as unknown as { axe: typeof axe }).axe.run({ runOnly, resultTypes: ['violations'] }),
    tags,
  );
  return violations.map(({ id, nodes }) => ({
    id,
    nodes: nodes.map(({ html, failureSummary }) => `${html.slice(0, 200)}\n${failureSummary}`),
  }));
}

/** What does not fit: parts of the page that can be scrolled sideways, stick out of it, or are cut off. */
function findMisfits(): string[] {
  const describeElement = (element: Element, what: string) =>
    `${what}: <${element.tagName.toLowerCase()} class="${element.className}"> ${element.textContent.slice(0, 60)}`;
  const width = document.documentElement.clientWidth;
  const found: string[] = [];
  for (const element of document.querySelectorAll<HTMLElement>('body, body *')) {
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    // Not shown, or shown to screen readers only.
    if (!element.checkVisibility() || box.width <= 1 || style.clipPath !== 'none') continue;
    if (element.closest('[aria-hidden=true], .visually-hidden')) continue;
    // What is typed scrolls in its field.
    if (element instanceof HTMLInputElement) continue;
    const overflows = element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0;
    if (overflows && /auto|scroll/.test(style.overflowX)) found.push(describeElement(element, 'scrolls'));
    if (overflows && style.overflowX === 'visible' && style.display !== 'inline')
      found.push(describeElement(element, 'spills'));
    if (box.right > width + 1 || box.left < -1) found.push(describeElement(element, 'sticks out'));
    const isCut = overflows || element.scrollHeight > element.clientHeight + 4;
    const cuts = /hidden|clip/.test(style.overflowX) && !element.hasAttribute('data-truncate');
    if (isCut && cuts && element !== document.body) found.push(describeElement(element, 'cuts off'));
  }
  return found;
}

describeInBrowser('accessibility', () => {
  const stage = createStage({ sharesPages: true });
  const show = createViewer(stage);
  let scene: Scene;

  beforeAll(async () => {
    scene = await setScene(stage);
  });

  it('says which language it speaks, and follows when another one is chosen', async () => {
    const showGerman = createViewer(stage, {}, 'de');
    const language = (page: Page) => page.locator('html').getAttribute('lang');
    expect(await language(await showGerman(viewNamed('sign-in'), scene))).toBe('de');
    const page = await showGerman(viewNamed('user menu open'), scene);
    expect(await language(page)).toBe('de');
    expect(await page.title()).toBe('Zugriffstokens · Platform Tokens');
    await page.getByRole('menuitemradio', { name: 'English' }).click();
    await expect.poll(() => page.title()).toBe('Access tokens · Platform Tokens');
    expect(await language(page)).toBe('en');
  });

  describe.each(views)('$name', (view) => {
    let page: Page;

    beforeAll(async () => {
      page = await show(view, scene);
    });
    beforeEach(() => {
      // Some are logged again and again, while the view lasts.
      stage.expectedErrors.push(...(view.errors ?? []));
    });

    it.each(schemes)('has nothing that axe objects to, $scheme', async ({ colorScheme, viewport }) => {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize(viewport);
      expect(await violationsOf(page)).toEqual([]);
    });

    it('has one heading of the first level and a title of its own', async () => {
      expect(await page.locator('h1').count()).toBe(1);
      expect(await page.title()).toBe(`${view.title(english)} · Platform Tokens`);
    });

    it('has no motion where none is wanted', async () => {
      const animations = await page.evaluate(() =>
        document
          .getAnimations()
          .filter(({ playState }) => playState === 'running')
          .map(({ effect }) => (effect as KeyframeEffect).target?.className),
      );
      expect(animations).toEqual([]);
    });

    // Lists that are open find their new place a moment later.
    const misfits = () => page.evaluate(findMisfits);

    // 320 pixels are those of WCAG 2.2 §1.4.10.
    it.each([320, 993, 1201, 1366])('fits %i pixels, without scrolling sideways', async (width) => {
      await page.setViewportSize({ width, height: 640 });
      await expect.poll(misfits, { timeout: 3_000 }).toEqual([]);
    });

    it('fits with letters of twice the size', async () => {
      await page.setViewportSize(desktop);
      const browser = await page.context().newCDPSession(page);
      const setFontSize = (standard: number) =>
        browser.send('Page.setFontSizes', { fontSizes: { standard } });
      await setFontSize(32);
      onTestFinished(async () => void (await setFontSize(16)));
      expect(await page.evaluate(() => getComputedStyle(document.documentElement).fontSize)).toBe('32px');
      await expect.poll(misfits, { timeout: 3_000 }).toEqual([]);
    });
  });
});
