import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { type Browser, chromium } from 'playwright-core';

const names = [
  'chromium-headless-shell',
  'chromium',
  'chromium-browser',
  'google-chrome',
  'google-chrome-stable',
  'chrome',
];

/**
 * The system's Chromium or Chrome: CHROME_PATH, else by name on the PATH.
 * @returns undefined where there is none; @throws where REQUIRE_BROWSER says that there must be one
 */
export async function findChromium(): Promise<string | undefined> {
  const { CHROME_PATH, PATH = '', REQUIRE_BROWSER } = process.env;
  const candidates = CHROME_PATH
    ? [CHROME_PATH]
    : PATH.split(delimiter).flatMap((directory) => names.map((name) => join(directory, name)));
  for (const candidate of candidates) {
    const found = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return candidate;
  }
  const message =
    'no Chromium or Chrome on the PATH or in CHROME_PATH: the dashboard is NOT tested in a browser';
  if (REQUIRE_BROWSER) throw new Error(message);
  process.stderr.write(
    `\n${'!'.repeat(message.length + 4)}\n! ${message} !\n${'!'.repeat(message.length + 4)}\n\n`,
  );
  return undefined;
}

export function launchChromium(executablePath: string): Promise<Browser> {
  return chromium.launch({
    executablePath,
    // The pages are our own; a sandbox inside a container needs what containers do not give.
    chromiumSandbox: false,
    args: ['--disable-dev-shm-usage'],
  });
}
