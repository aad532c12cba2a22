import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import { createHarness, type Harness } from '../../support/harness.ts';
import { findChromium, launchChromium } from './chromium.ts';

export const password = 'correct horse battery';

const executablePath = await findChromium();

/** Tests in a real browser; without one the run has said so, and what it would have tested is shown as skipped. */
export const describeInBrowser = executablePath ? describe : describe.skip;

export interface Person {
  readonly id: string;
  readonly email: string;
}

export interface Stage {
  readonly harness: Harness;
  /** A page of a fresh browser profile. Whatever it logs as an error fails the test. */
  open(options?: BrowserContextOptions): Promise<Page>;
  /** …where this person is signed in, on their own tokens. */
  openAs(person: Person, options?: BrowserContextOptions): Promise<Page>;
  /** The five services of the demonstration, by id. */
  readonly services: ReadonlyMap<string, { id: string; name: string; audience: string; scopes: string[] }>;
  /** Console errors that are expected from here on, as parts of their text. */
  readonly expectedErrors: string[];
}

/**
 * One server and one browser for a file of tests.
 * @param sharesPages whether pages stay open from one test to the next
 */
export function createStage({ sharesPages = false } = {}): Stage {
  let harness: Harness;
  let browser: Browser;
  const contexts = new Set<BrowserContext>();
  const faults: string[] = [];
  const expectedErrors: string[] = [];
  let lastExpected: string[] = [];
  const services = new Map<string, { id: string; name: string; audience: string; scopes: string[] }>();

  beforeAll(async () => {
    harness = await createHarness({ ownOrigin: true });
    for (const [id, name] of [
      ['connectors', 'Connectors'],
      ['language-ai', 'Language AI'],
      ['strings', 'Strings'],
      ['studio', 'Studio'],
      ['tms', 'TMS'],
    ] as const) {
      const service = {
        id,
        name,
        audience: `https://api.example.com/${id}`,
        scopes: [`${id}:read`, `${id}:write`],
        status: 'active' as const,
        createdAt: new Date(),
      };
      await harness.stores.services.insert(service);
      services.set(id, service);
    }
    browser = await launchChromium(String(executablePath));
  });
  afterEach(async () => {
    if (!sharesPages) {
      for (const context of contexts) await context.close();
      contexts.clear();
    }
    // A request that the last view cut off may be reported while this one is open.
    const expected = [...lastExpected, ...expectedErrors];
    const unexpected = faults.filter((fault) => !expected.some((part) => fault.includes(part)));
    faults.length = 0;
    lastExpected = expectedErrors.splice(0);
    expect(unexpected).toEqual([]);
  });
  afterAll(async () => {
    await browser?.close();
    await harness?.close();
  });

  async function open(options: BrowserContextOptions = {}): Promise<Page> {
    const context = await browser.newContext({
      baseURL: harness.issuer,
      locale: 'en-GB',
      timezoneId: 'Europe/Berlin',
      viewport: { width: 1280, height: 900 },
      ...options,
    });
    context.setDefaultTimeout(10_000);
    contexts.add(context);
    context.on('console', (message) => {
      if (message.type() === 'error') faults.push(message.text());
    });
    context.on('weberror', (error) => faults.push(String(error.error())));
    context.on('request', (request) => {
      const { origin } = new URL(request.url());
      if (origin !== new URL(harness.issuer).origin) faults.push(`third-party request: ${request.url()}`);
    });
    return context.newPage();
  }

  return {
    get harness() {
      return harness;
    },
    services,
    expectedErrors,
    open,
    async openAs(person, options) {
      const page = await open(options);
      await page.goto('/dashboard');
      await signIn(page, person);
      // The page that waits has a heading as well.
      await page.locator('#content h1').waitFor();
      return page;
    },
  };
}

/** Fills in the server's own sign-in page. */
export async function signIn(page: Page, { email }: Person): Promise<void> {
  await page.waitForURL(/\/oauth\/sign-in\//);
  await page.locator('[name=email]').fill(email);
  await page.locator('[name=password]').fill(password);
  await page.locator('button[type=submit]').click();
}
