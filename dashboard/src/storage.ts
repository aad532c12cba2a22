import { basePath } from './settings.ts';

/**
 * What a browser remembers of small choices. It may refuse (private windows, a full disk, a policy): then nothing is
 * remembered, and nothing breaks. Named by the path, for two issuers may share an origin.
 */
export interface Memory {
  get(name: string): string | null;
  /** @returns whether it is remembered */
  set(name: string, value: string): boolean;
  remove(name: string): void;
}

const prefix = `platform-tokens ${basePath} `;

function createMemory(of: () => Storage): Memory {
  const attempt = <T>(work: (storage: Storage) => T, otherwise: T): T => {
    try {
      return work(of());
    } catch {
      return otherwise;
    }
  };
  return {
    get: (name) => attempt((storage) => storage.getItem(prefix + name), null),
    set: (name, value) =>
      attempt((storage) => {
        storage.setItem(prefix + name, value);
        return true;
      }, false),
    remove: (name) => attempt((storage) => storage.removeItem(prefix + name), undefined),
  };
}

/** Of this browser. */
export const lasting = createMemory(() => localStorage);
/** Of this tab. */
export const passing = createMemory(() => sessionStorage);
