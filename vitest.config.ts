import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 20_000,
    hookTimeout: 60_000,
    // One more than the cores of a small machine: a third of a test's time is waiting for processes.
    maxWorkers: 3,
    expect: { poll: { timeout: 10_000 } },
  },
});
