import { availableParallelism } from 'node:os';
import { delimiter, isAbsolute } from 'node:path';

const { PATH = '/usr/bin:/bin', XDG_CACHE_HOME } = process.env;

/** Where this machine keeps programs and caches: facts of the host, not settings of the product (those are in env.ts). */
export const host = Object.freeze({
  /** Those that this process may use. */
  cores: availableParallelism(),
  /** `PATH` as it is, for programs that are started. */
  path: PATH,
  /** Absolute directories of `PATH`. */
  programDirectories: Object.freeze(PATH.split(delimiter).filter((directory) => isAbsolute(directory))),
  /** Absolute; undefined where the user has named none (XDG base directory specification). */
  cacheHome: XDG_CACHE_HOME && isAbsolute(XDG_CACHE_HOME) ? XDG_CACHE_HOME : undefined,
});
