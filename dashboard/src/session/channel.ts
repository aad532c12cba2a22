import { basePath } from '../settings.ts';

/** What the tabs and windows of this dashboard in this browser tell each other. */
export type Message =
  | { readonly type: 'signed-in'; readonly userId: string }
  | { readonly type: 'signed-out' }
  | { readonly type: 'tokens-changed' }
  /** From a sign-in window to the page that opened it: the callback's URL, in which the code is. */
  | { readonly type: 'callback'; readonly url: string };

/** Of this dashboard alone: another issuer may have one of the same origin. */
const name = `platform-tokens ${basePath}`;

export function createChannel(onMessage: (message: Message) => void): (message: Message) => void {
  const channel = new BroadcastChannel(name);
  channel.onmessage = ({ data }: MessageEvent<unknown>) => {
    if (isMessage(data)) onMessage(data);
  };
  return (message) => channel.postMessage(message);
}

/** Another release of this page may be open in another tab. */
function isMessage(data: unknown): data is Message {
  const { type, userId, url } = (data ?? {}) as Record<string, unknown>;
  if (type === 'signed-in') return typeof userId === 'string';
  if (type === 'callback') return typeof url === 'string' && URL.canParse(url);
  return type === 'signed-out' || type === 'tokens-changed';
}
