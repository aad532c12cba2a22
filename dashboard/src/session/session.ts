import { basePath } from '../settings.ts';
import {
  createAuthorizationRequest,
  LoginRequired,
  type PendingAuthorization,
  redeem,
  renewSilently,
  signOutUrl,
  type Tokens,
} from './authorization.ts';
import { createChannel, type Message } from './channel.ts';

/**
 * - `starting`: nobody knows yet, or the browser is on its way to the sign-in page
 * - `signed-in`
 * - `expired`: the session has ended under a page that is open; what needs an access token waits for the next sign-in
 * - `signed-out`: by the user, here or in another tab
 * - `failed`: the sign-in could not be completed
 */
export type SessionState = 'starting' | 'signed-in' | 'expired' | 'signed-out' | 'failed';

export interface Session {
  readonly state: () => SessionState;
  readonly userId: () => string | undefined;
  subscribe(listener: () => void): () => void;
  /** Finds out who is signed in, or sends the browser to the sign-in page. */
  start(): Promise<void>;
  /** Whole page, back to the present view. */
  signIn(): Promise<void>;
  /** In a window of its own, to be called by a click; the page stays as it is. @returns false where it was blocked */
  signInByWindow(): Promise<boolean>;
  signOut(): void;
  /** A valid access token. Waits while the session has ended. @throws AuthorizationFailed */
  accessToken(): Promise<string>;
  /** One in place of `refused`, which the API did not take. @throws AuthorizationFailed */
  accessTokenAfter(refused: string): Promise<string>;
  onMessage(listener: (message: Message) => void): () => void;
  readonly send: (message: Message) => void;
}

/** Of a redirect of the whole page: gone with the answer, and never holds a token. */
const pendingKey = 'platform-tokens.pending-authorization';
const signedOutPath = `${basePath}/signed-out`;
const windowPrefix = 'window-';
/** Renewed this long before it ends, so that no call is on its way when it does. */
const renewEarlyMs = 30_000;

interface PendingRedirect extends PendingAuthorization {
  readonly returnTo: string;
}

/** The access token lives in this closure, and nowhere else. */
export function createSession(): Session {
  let state: SessionState = 'starting';
  let tokens: Tokens | undefined;
  let userId: string | undefined;
  let renewal: Promise<string> | undefined;
  let byWindow: PendingAuthorization | undefined;
  let signedInAgain = Promise.withResolvers<void>();
  const listeners = new Set<() => void>();
  const messageListeners = new Set<(message: Message) => void>();

  const send = createChannel((message) => {
    if (message.type === 'signed-out') endHere();
    if (message.type === 'signed-in' && state === 'expired') void signedInElsewhere();
    if (message.type === 'callback') void answeredByWindow(new URL(message.url));
    for (const listener of messageListeners) listener(message);
  });

  function change(next: SessionState): void {
    state = next;
    for (const listener of listeners) listener();
  }

  function take(fresh: Tokens): string {
    // Somebody else has signed in in this browser: nothing of this page is theirs.
    if (userId !== undefined && fresh.userId !== userId) {
      location.reload();
      return fresh.accessToken;
    }
    tokens = fresh;
    userId = fresh.userId;
    if (state !== 'signed-in') change('signed-in');
    signedInAgain.resolve();
    return fresh.accessToken;
  }

  function endHere(): void {
    tokens = undefined;
    userId = undefined;
    change('signed-out');
  }

  function expire(): void {
    tokens = undefined;
    if (state !== 'signed-in') return;
    signedInAgain = Promise.withResolvers<void>();
    change('expired');
  }

  async function renew(): Promise<string> {
    try {
      return take(await renewSilently());
    } catch (error) {
      if (!(error instanceof LoginRequired)) throw error;
      expire();
      await signedInAgain.promise;
      return String(tokens?.accessToken);
    }
  }

  function renewOnce(): Promise<string> {
    renewal ??= renew().finally(() => {
      renewal = undefined;
    });
    return renewal;
  }

  async function accessToken(): Promise<string> {
    // Never settles once signed out: what was asking belongs to a page that is no longer shown.
    if (state === 'signed-out') return new Promise<string>(() => {});
    if (tokens && tokens.expiresAt - performance.now() > renewEarlyMs) return tokens.accessToken;
    return renewOnce();
  }

  async function answeredByWindow(callback: URL): Promise<void> {
    const pending = byWindow;
    if (!pending || callback.searchParams.get('state') !== pending.state) return;
    byWindow = undefined;
    try {
      take(await redeem(callback, pending));
      send({ type: 'signed-in' });
    } catch {
      // The dialog is still there, with its button.
    }
  }

  async function signedInElsewhere(): Promise<void> {
    await renewSilently().then(take, () => {});
  }

  async function signIn(): Promise<void> {
    const { url, pending } = await createAuthorizationRequest();
    const here = location.pathname + location.search;
    const returnTo = location.pathname === signedOutPath ? basePath : here;
    sessionStorage.setItem(pendingKey, JSON.stringify({ ...pending, returnTo } satisfies PendingRedirect));
    location.assign(url);
  }

  /** The callback's page: in a sign-in window the answer is for another page; else it is for this one. */
  async function answerCallback(): Promise<void> {
    const callback = new URL(location.href);
    // The code leaves the address, and with it the history, whatever comes of it.
    history.replaceState(null, '', basePath);
    if (callback.searchParams.get('state')?.startsWith(windowPrefix)) {
      send({ type: 'callback', url: callback.href });
      window.close();
      // Not every browser closes it: then it becomes a page like any other.
      setTimeout(startFresh, 1_000);
      return;
    }
    const stored = sessionStorage.getItem(pendingKey);
    sessionStorage.removeItem(pendingKey);
    // Opened by the back button or a bookmark: there is nothing to redeem.
    if (stored === null) return startFresh();
    const { returnTo, ...pending } = JSON.parse(stored) as PendingRedirect;
    try {
      const fresh = await redeem(callback, pending);
      history.replaceState(null, '', returnTo);
      take(fresh);
      send({ type: 'signed-in' });
    } catch (error) {
      if (error instanceof LoginRequired) return signIn();
      history.replaceState(null, '', returnTo);
      change('failed');
    }
  }

  async function startFresh(): Promise<void> {
    try {
      take(await renewSilently());
    } catch (error) {
      if (error instanceof LoginRequired) return signIn();
      change('failed');
    }
  }

  return {
    state: () => state,
    userId: () => userId,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async start() {
      const path = location.pathname;
      if (path === `${basePath}/callback`) return answerCallback();
      if (path === signedOutPath) return change('signed-out');
      change('starting');
      return startFresh();
    },
    signIn,
    async signInByWindow() {
      // Before anything is awaited: browsers open windows for clicks only.
      const opened = window.open('', '_blank', 'popup,width=480,height=640');
      if (!opened) return false;
      const { url, pending } = await createAuthorizationRequest({}, windowPrefix);
      byWindow = pending;
      opened.location.assign(url);
      return true;
    },
    signOut() {
      const url = signOutUrl(tokens?.idToken);
      endHere();
      send({ type: 'signed-out' });
      location.assign(url);
    },
    accessToken,
    async accessTokenAfter(refused) {
      if (tokens?.accessToken === refused) tokens = undefined;
      return accessToken();
    },
    onMessage(listener) {
      messageListeners.add(listener);
      return () => messageListeners.delete(listener);
    },
    send,
  };
}
