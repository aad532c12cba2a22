import { defineConfig } from 'vitest/config';

/** `npm run screenshots`: no test, but it needs the server of one. */
export default defineConfig({
  test: {
    include: ['test/dashboard/screenshots.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
