import { createRequire } from 'node:module';

/** Of this release, out of package.json. */
export function packageVersion(): string {
  return (createRequire(import.meta.url)('../package.json') as { version: string }).version;
}
