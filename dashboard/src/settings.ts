/** What the server wrote into the page. */

const meta = (name: string) => document.querySelector<HTMLMetaElement>(`meta[name="${name}"]`);

/** Of this dashboard's authorization server: every URL of its own is built on it. */
export const issuer = meta('issuer')?.content ?? '';

/** Path of the dashboard, without a trailing slash. */
export const basePath = new URL(document.baseURI).pathname.replace(/\/$/, '');

/** Of this page's Content-Security-Policy, for the style elements that the components make. */
export const styleNonce = meta('csp-nonce')?.nonce ?? '';

export const clientId = 'dashboard';
export const redirectUri = `${issuer}/dashboard/callback`;

/** Of a platform token. */
export const tokenLifetimeDays = 730;
