import type { Context } from 'koa';

/** Every word that a person reads on the server's own pages. */
const english = {
  product: 'Platform Tokens',
  signIn: 'Sign in',
  email: 'Email',
  password: 'Password',
  wrongCredentials: 'Incorrect email or password.',
  tooManyAttempts: 'Too many attempts',
  tryAgainIn: (minutes: number) => `Try again in ${minutes} ${minutes === 1 ? 'minute' : 'minutes'}.`,
  backToSignIn: 'Back to sign-in',
  gone: 'This sign-in has ended',
  goneText: 'It took too long, is finished already, or was begun in another browser.',
  startAgain: 'Start again',
  notPossible: 'This does not work',
  notPossibleText:
    'The application sent a request that cannot be answered. Its makers can find out why by this code:',
  foreignForm: 'The form did not come from this site. Open the sign-in page again.',
  unreadableForm: 'The form could not be read. Open the sign-in page again.',
  unavailable: 'Not available right now',
  unavailableText: 'Try again in a moment.',
  signOut: 'Sign out',
  signOutQuestion: 'Sign out of Platform Tokens in this browser?',
  staySignedIn: 'Stay signed in',
  signedOut: 'You are signed out',
  signedOutText: 'You can close this window.',
  toDashboard: 'To the dashboard',
};

export type Texts = typeof english;

const german: Texts = {
  product: 'Platform Tokens',
  signIn: 'Anmelden',
  email: 'E-Mail',
  password: 'Passwort',
  wrongCredentials: 'E-Mail-Adresse oder Passwort ist falsch.',
  tooManyAttempts: 'Zu viele Versuche',
  tryAgainIn: (minutes) =>
    `Bitte in ${minutes} ${minutes === 1 ? 'Minute' : 'Minuten'} noch einmal versuchen.`,
  backToSignIn: 'Zurück zur Anmeldung',
  gone: 'Diese Anmeldung ist beendet',
  goneText:
    'Sie hat zu lange gedauert, ist schon abgeschlossen oder wurde in einem anderen Browser begonnen.',
  startAgain: 'Neu beginnen',
  notPossible: 'Das geht nicht',
  notPossibleText:
    'Die Anwendung hat eine Anfrage geschickt, die sich nicht beantworten lässt. Ihre Hersteller finden den Grund unter diesem Code:',
  foreignForm: 'Das Formular kam nicht von dieser Seite. Bitte die Anmeldung neu öffnen.',
  unreadableForm: 'Das Formular war nicht lesbar. Bitte die Anmeldung neu öffnen.',
  unavailable: 'Gerade nicht verfügbar',
  unavailableText: 'Bitte gleich noch einmal versuchen.',
  signOut: 'Abmelden',
  signOutQuestion: 'In diesem Browser von Platform Tokens abmelden?',
  staySignedIn: 'Angemeldet bleiben',
  signedOut: 'Sie sind abgemeldet',
  signedOutText: 'Sie können dieses Fenster schließen.',
  toDashboard: 'Zum Dashboard',
};

const languages = { en: english, de: german };

/** By Accept-Language; English where nothing fits. */
export function textsFor(ctx: Context): { lang: keyof typeof languages; texts: Texts } {
  const lang = ctx.acceptsLanguages('en', 'de') === 'de' ? 'de' : 'en';
  return { lang, texts: languages[lang] };
}
