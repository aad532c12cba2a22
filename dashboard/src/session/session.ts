import { basePath } from '../settings.ts';
import { passing } from '../storage.ts';
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
 * - `starting`: nobody knows yet, or the browser is on its way to another page
 * - `signed-in`
 * - `expired`: the session has ended under a page that is open; what needs an access token waits for the next sign-in
 * - `signed-out`: by the user, here or in another tab
 * - `failed`: the sign-in could not be completed; it is tried again from time to time
 */
export type SessionState = 'starting' | 'signed-in' | 'expired' | 'signed-out' | 'failed';

export interface Session {
  readonly state: () => SessionState;
  subscribe(listener: () => void): () => void;
  /** Finds out who is signed in, or sends the browser to the sign-in page. */
  start(): Promise<void>;
  /** Whole page, back to the present view. */
  signIn(): Promise<void>;
  /** In a window of its own, to be called by a click; the page stays as it is. @returns false where it was blocked */
  signInByWindow(): Promise<boolean>;
  signOut(): Promise<void>;
  /** For one request: it belongs to whose page this is now, and is never sent as another user. */
  begin(): RequestSession;
  onMessage(listener: (message: Message) => void): () => void;
  readonly send: (message: Message) => void;
}

export interface RequestSession {
  /** A valid access token. Waits while the session has ended; for ever where that user is gone. @throws AuthorizationFailed */
  accessToken(): Promise<string>;
  /** One in place of `refused`, which the API did not take. @throws AuthorizationFailed */
  accessTokenAfter(refused: string): Promise<string>;
}

/** Of a redirect of the whole page: gone with the answer, and never holds a token. */
const pendingName = 'pending-authorization';
const callbackPath = `${basePath}/callback`;
const signedOutPath = `${basePath}/signed-out`;
const windowPrefix = 'window-';
/** Renewed this long before it ends, so that no call is on its way when it does. */
const renewEarlyMs = 30_000;
const retryMs = 5_000;

interface PendingRedirect extends PendingAuthorization {
  readonly returnTo: string;
}

/** Settles never: what was asking belongs to a page that is about to go. */
const never = () => new Promise<never>(() => {});

/** The access token lives in this closure, and nowhere else. */
export function createSession(): Session {
  let state: SessionState = 'starting';
  let tokens: Tokens | undefined;
  /** Whose page this is: it never becomes another user's. */
  let userId: string | undefined;
  /** Another one from each sign-out on: what was asked for before it is nobody's any more. */
  let era = 0;
  /** Kept beyond the access token, as the hint of the sign-out. */
  let idToken: string | undefined;
  let renewal: Promise<string> | undefined;
  let byWindow: PendingAuthorization | undefined;
  let signedInAgain = Promise.withResolvers<string>();
  let retry: ReturnType<typeof setTimeout> | undefined;
  const listeners = new Set<() => void>();
  const messageListeners = new Set<(message: Message) => void>();

  const send = createChannel((message) => {
    if (message.type === 'signed-out') endHere();
    if (message.type === 'signed-in') void signedInElsewhere(message.userId);
    if (message.type === 'callback') void answeredByWindow(new URL(message.url));
    for (const listener of messageListeners) listener(message);
  });

  function change(next: SessionState): void {
    clearTimeout(retry);
    state = next;
    if (next === 'failed') retry = setTimeout(() => void startFresh(), retryMs);
    for (const listener of listeners) listener();
  }

  /** Whether these tokens may be used by this page: one of another user begins anew. */
  function take(fresh: Tokens): boolean {
    if (userId !== undefined && fresh.userId !== userId) {
      tokens = undefined;
      location.reload();
      return false;
    }
    tokens = fresh;
    userId = fresh.userId;
    idToken = fresh.idToken;
    if (state !== 'signed-in') change('signed-in');
    signedInAgain.resolve(fresh.accessToken);
    return true;
  }

  function endHere(): void {
    tokens = undefined;
    userId = undefined;
    idToken = undefined;
    era += 1;
    change('signed-out');
  }

  function expire(): void {
    tokens = undefined;
    if (state !== 'signed-in') return;
    signedInAgain = Promise.withResolvers<string>();
    change('expired');
  }

  async function renew(): Promise<string> {
    try {
      const fresh = await renewSilently();
      return take(fresh) ? fresh.accessToken : never();
    } catch (error) {
      if (!(error instanceof LoginRequired)) throw error;
      expire();
      return signedInAgain.promise;
    }
  }

  function renewOnce(): Promise<string> {
    renewal ??= renew().finally(() => {
      renewal = undefined;
    });
    return renewal;
  }

  const isFresh = () => tokens !== undefined && tokens.expiresAt - performance.now() > renewEarlyMs;

  async function accessToken(): Promise<string> {
    if (state === 'signed-out') return never();
    if (tokens && isFresh()) return tokens.accessToken;
    return renewOnce();
  }

  function begin(): RequestSession {
    const began = era;
    const own = (token: Promise<string>) => token.then((one) => (era === began ? one : never()));
    return {
      accessToken: () => own(accessToken()),
      accessTokenAfter(refused) {
        if (era === began && tokens?.accessToken === refused) tokens = undefined;
        return own(accessToken());
      },
    };
  }

  async function answeredByWindow(callback: URL): Promise<void> {
    const pending = byWindow;
    // Of another page's window, or of one that was opened before: then this browser is signed in all the same.
    if (callback.searchParams.get('state') !== pending?.state) return followSignIn();
    byWindow = undefined;
    try {
      const fresh = await redeem(callback, pending as PendingAuthorization);
      if (take(fresh)) send({ type: 'signed-in', userId: fresh.userId });
    } catch {
      // The dialog is still there, with its button.
    }
  }

  async function signedInElsewhere(other: string): Promise<void> {
    if (userId !== undefined && other !== userId) location.reload();
    else await followSignIn();
  }

  async function followSignIn(): Promise<void> {
    if (state !== 'expired' && state !== 'signed-out') return;
    if (location.pathname === signedOutPath) return location.assign(basePath);
    await renewSilently().then(take, () => {});
  }

  async function signIn(): Promise<void> {
    const { url, pending } = await createAuthorizationRequest();
    const here = location.pathname + location.search;
    const returnTo = location.pathname === signedOutPath ? basePath : here;
    const kept = passing.set(pendingName, JSON.stringify({ ...pending, returnTo } satisfies PendingRedirect));
    // Without a memory the answer could not be told from a forged one.
    if (kept) location.assign(url);
    else change('failed');
  }

  /** The callback's page: in a sign-in window the answer is for another page; else it is for this one. */
  async function answerCallback(): Promise<void> {
    const callback = new URL(location.href);
    const answered = callback.searchParams.get('state');
    // The code leaves the address, and with it the history, whatever comes of it.
    history.replaceState(null, '', basePath);
    if (answered?.startsWith(windowPrefix)) {
      send({ type: 'callback', url: callback.href });
      window.close();
      // Not every browser closes it: then it becomes a page like any other.
      setTimeout(() => void startFresh(), 1_000);
      return;
    }
    const stored = passing.get(pendingName);
    const { returnTo = basePath, ...pending } = (
      stored ? JSON.parse(stored) : {}
    ) as Partial<PendingRedirect>;
    // Opened by the back button or a bookmark, or by somebody else: there is nothing to redeem.
    if (answered === null || answered !== pending.state) return startFresh();
    passing.remove(pendingName);
    history.replaceState(null, '', returnTo);
    try {
      const fresh = await redeem(callback, pending as PendingAuthorization);
      if (take(fresh)) send({ type: 'signed-in', userId: fresh.userId });
    } catch (error) {
      if (error instanceof LoginRequired) return signIn();
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

  /** The page after a sign-out says so only where it is true, and then to the other tabs as well. */
  async function confirmSignOut(): Promise<void> {
    try {
      await renewSilently();
      location.replace(basePath);
    } catch (error) {
      if (!(error instanceof LoginRequired)) return change('failed');
      endHere();
      send({ type: 'signed-out' });
    }
  }

  return {
    state: () => state,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async start() {
      change('starting');
      if (location.pathname === callbackPath) return answerCallback();
      if (location.pathname === signedOutPath) return confirmSignOut();
      return startFresh();
    },
    signIn,
    async signInByWindow() {
      // Before anything is awaited: browsers open windows for clicks only. Named, so that a second click finds the first.
      const opened = window.open('', 'platform-tokens-sign-in', 'popup,width=480,height=640');
      if (!opened) return false;
      const { url, pending } = await createAuthorizationRequest({}, windowPrefix);
      byWindow = pending;
      opened.location.assign(url);
      opened.focus();
      return true;
    },
    async signOut() {
      // A page that was left alone may hold an ID token of a key that is gone, which the server would refuse.
      if (!isFresh()) await renewSilently().then(take, () => {});
      location.assign(signOutUrl(isFresh() ? idToken : undefined));
    },
    begin,
    onMessage(listener) {
      messageListeners.add(listener);
      return () => messageListeners.delete(listener);
    },
    send,
  };
}
