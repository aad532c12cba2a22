import packageJson from '../../package.json' with { type: 'json' };

/** What `npm start` runs: what is tested and measured is what is run. */

const words = packageJson.scripts.start.split(' ');

/** Node's flags. */
export const startFlags: readonly string[] = words.filter((word) => word.startsWith('--'));

export const startEnvironment: Readonly<Record<string, string>> = Object.fromEntries(
  words.filter((word) => /^[A-Z_]+=/.test(word)).map((word) => word.split('=')),
);
