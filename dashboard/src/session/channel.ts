/** What the tabs and windows of this dashboard in this browser tell each other. */
export type Message =
  | { readonly type: 'signed-in' }
  | { readonly type: 'signed-out' }
  | { readonly type: 'tokens-changed' }
  /** From a sign-in window to the page that opened it: the callback's URL, in which the code is. */
  | { readonly type: 'callback'; readonly url: string };

const name = 'platform-tokens';

export function createChannel(onMessage: (message: Message) => void): (message: Message) => void {
  const channel = new BroadcastChannel(name);
  channel.onmessage = ({ data }: MessageEvent<Message>) => onMessage(data);
  return (message) => channel.postMessage(message);
}
