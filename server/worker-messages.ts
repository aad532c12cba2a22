import type { Family } from './metrics/registry.ts';

/** What the primary tells a worker that waits. */
export type Order =
  | { readonly type: 'serve'; readonly connectionString: string }
  | { readonly type: 'measure' }
  | { readonly type: 'gathered'; readonly families: readonly Family[] }
  | { readonly type: 'stop' };
/** What a worker says of itself; the first one waits on the port that it has taken. */
export type Report =
  | { readonly type: 'waiting'; readonly port: number | undefined }
  | { readonly type: 'serving' }
  | { readonly type: 'gather' }
  | { readonly type: 'measured'; readonly families: readonly Family[] }
  | { readonly type: 'failed'; readonly reason: string };
