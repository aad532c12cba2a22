import { createHash } from 'node:crypto';
import type { Context } from 'koa';
import { type Texts, textsFor } from './texts.ts';

/** HTML that is safe as it is: made by `html` only. */
export class Html {
  readonly markup: string;
  constructor(markup: string) {
    this.markup = markup;
  }
}

const entities: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Every value is escaped, for text and for quoted attributes, unless it is Html itself. */
export function html(parts: TemplateStringsArray, ...values: readonly (string | Html)[]): Html {
  const escaped = values.map((value) =>
    value instanceof Html
      ? value.markup
      : value.replace(/[&<>"']/g, (character) => entities[character] ?? ''),
  );
  return new Html(String.raw({ raw: parts }, ...escaped));
}

export interface Page {
  readonly status: number;
  readonly title: (texts: Texts) => string;
  readonly content: (texts: Texts) => Html;
  /** Where a form's answer may lead, besides this origin. */
  readonly formTarget?: string | undefined;
}

/** One of the server's own pages: works without scripts, and its policy forbids them. */
export function writePage(ctx: Context, { status, title, content, formTarget }: Page): void {
  const { lang, texts } = textsFor(ctx);
  ctx.status = status;
  ctx.set({
    'Cache-Control': 'no-store',
    'Referrer-Policy': 'no-referrer',
    'Content-Language': lang,
    // OWASP ASVS 5 §3.4.3. Chromium holds form-action against the redirects after a form too.
    'Content-Security-Policy': [
      "default-src 'none'",
      `style-src 'sha256-${styleDigest}'`,
      `form-action 'self'${formTarget ? ` ${formTarget}` : ''}`,
      "base-uri 'none'",
      "frame-ancestors 'none'",
    ].join('; '),
  });
  ctx.vary('Accept-Language');
  ctx.type = 'html';
  ctx.body = html`<!doctype html>
<html lang="${lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>${title(texts)} · ${texts.product}</title>
<style>${new Html(style)}</style>
</head>
<body>
<main>
<p class="product">${texts.product}</p>
<h1>${title(texts)}</h1>
${content(texts)}
</main>
</body>
</html>
`.markup;
}

export interface Notice {
  readonly status: number;
  readonly title: Sentence;
  readonly text: (texts: Texts) => string;
  readonly way: { readonly text: Sentence; readonly href: string };
}

/** Those of the texts that are words, and nothing to be filled in. */
type Sentence = { [K in keyof Texts]: Texts[K] extends string ? K : never }[keyof Texts];

/** A page with one sentence and one way on. */
export function writeNotice(ctx: Context, { status, title, text, way }: Notice): void {
  writePage(ctx, {
    status,
    title: (texts) => texts[title],
    content: (texts) => html`<p role="alert">${text(texts)}</p>
<a class="button" href="${way.href}">${texts[way.text]}</a>`,
  });
}

/** Whether a person is looking, rather than a program. */
export const prefersHtml = (ctx: Context) => ctx.accepts('json', 'html') === 'html';

const style = `
:root { color-scheme: light dark; --ground: #f3f4f6; --sheet: #fff; --ink: #16181d; --quiet: #596070; --line: #8b93a3;
  --accent: #2450c8; --on-accent: #fff; --alarm: #a3161f; --alarm-ground: #fdecec; }
@media (prefers-color-scheme: dark) { :root { --ground: #101216; --sheet: #191c22; --ink: #eceef2; --quiet: #a3abba;
  --line: #6c7484; --accent: #8fb0ff; --on-accent: #0c1430; --alarm: #ffb3b3; --alarm-ground: #3a1a1d; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; min-height: 100dvh; display: grid; place-items: center; padding: 1rem;
  background: var(--ground); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
main { width: 100%; max-width: 25rem; padding: 2rem; background: var(--sheet); border-radius: .75rem;
  box-shadow: 0 1px 2px #0002, 0 8px 24px #0001; overflow-wrap: anywhere; }
.product { margin: 0 0 .25rem; color: var(--quiet); font-size: .875rem; }
h1 { margin: 0 0 1.25rem; font-size: 1.5rem; line-height: 1.25; }
p { margin: 0 0 1rem; }
label { display: block; margin-bottom: .25rem; font-weight: 600; font-size: .9375rem; }
input:not([type=hidden]) { display: block; width: 100%; margin-bottom: 1rem; padding: .625rem .75rem; font: inherit;
  color: inherit; background: transparent; border: 1px solid var(--line); border-radius: .5rem; }
button, .button { display: block; width: 100%; margin-top: .5rem; padding: .75rem; font: inherit; font-weight: 600;
  text-align: center; text-decoration: none; color: var(--on-accent); background: var(--accent); border: 0;
  border-radius: .5rem; cursor: pointer; }
a:not(.button) { display: inline-block; margin-top: 1rem; color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.alert { padding: .75rem; border-radius: .5rem; color: var(--alarm); background: var(--alarm-ground); }
code { font: .875rem/1.5 ui-monospace, monospace; }
`;
const styleDigest = createHash('sha256').update(style).digest('base64');
