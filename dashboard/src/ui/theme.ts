import {
  type CSSVariablesResolver,
  createTheme,
  defaultVariantColorsResolver,
  type MantineColorsTuple,
} from '@mantine/core';
import classes from './windows.module.css';

/** The colours of the sign-in page (server/oidc/page.ts), as shades; every pair that is used has a contrast of 4.5 or more. */
const brand: MantineColorsTuple = [
  '#eef3ff',
  '#dbe5ff',
  '#b6caff',
  '#8fb0ff',
  '#6c95fb',
  '#4a76ea',
  '#2450c8',
  '#1f46b1',
  '#193a94',
  '#122b70',
];

/** Mantine's greys of the dark appearance, with the blue of the sign-in page's. */
const dark: MantineColorsTuple = [
  '#eceef2',
  '#c3c9d4',
  '#98a1b0',
  '#6c7484',
  '#373d49',
  '#2a2f39',
  '#20242c',
  '#191c22',
  '#131519',
  '#101216',
];

/** With a line around it that is seen (WCAG 2.2 §1.4.11). */
const field = { input: classes.field ?? '' };

const windows = {
  classNames: { content: classes.sheet ?? '', header: classes.sheet ?? '', title: classes.title ?? '' },
  // The library makes it a <header>, which would be the page's second one.
  attributes: { header: { role: 'presentation' } },
  // Scrolling is locked by the style sheet: the library would put a style element of its own into the page.
  lockScroll: false,
};
/** Inside what they belong to, so that a window's lists are part of it, and a page's are in its landmarks. */
const inPlace = { withinPortal: false, floatingStrategy: 'fixed' as const };
/** Scrolls itself, as a list of a combobox may: the library's scroll area in it would have to take the focus. */
const list = {
  withScrollArea: false,
  // Else Chromium makes what scrolls a stop of the Tab key, which would close the list and lose the focus with it.
  attributes: { options: { tabIndex: -1 } },
  classNames: { ...field, options: classes.options ?? '', option: classes.option ?? '' },
};

export const theme = createTheme({
  primaryColor: 'brand',
  primaryShade: { light: 6, dark: 3 },
  autoContrast: true,
  colors: { brand, dark },
  fontFamily: 'system-ui, sans-serif',
  fontFamilyMonospace: 'ui-monospace, monospace',
  headings: { fontFamily: 'system-ui, sans-serif' },
  defaultRadius: 'md',
  cursorType: 'pointer',
  respectReducedMotion: true,
  variantColorResolver(input) {
    const colors = defaultVariantColorsResolver(input);
    // The library chooses black or white by the shade of the light appearance, for both.
    const isPrimary = input.variant === 'filled' && input.color === input.theme.primaryColor;
    return isPrimary ? { ...colors, color: 'var(--mantine-primary-color-contrast)' } : colors;
  },
  components: {
    // Without a transformation, which would clip the lists that open in it.
    Modal: { defaultProps: { ...windows, centered: true, transitionProps: { transition: 'fade' } } },
    Drawer: { defaultProps: { ...windows, position: 'right' } },
    Input: { defaultProps: { classNames: field } },
    Checkbox: { defaultProps: { classNames: { input: classes.box ?? '' } } },
    Popover: { defaultProps: { ...inPlace, shadow: 'md' } },
    Combobox: { defaultProps: { ...inPlace, shadow: 'md' } },
    Select: { defaultProps: list },
    MultiSelect: { defaultProps: list },
    // Its first item gets the focus, instead of an element that no menu may have.
    Menu: { defaultProps: { withInitialFocusPlaceholder: false, shadow: 'md' } },
    Notification: { defaultProps: { withBorder: true, classNames: { description: classes.quiet ?? '' } } },
  },
});

export const cssVariables: CSSVariablesResolver = () => ({
  variables: { '--mantine-text-wrap': 'pretty' },
  light: {
    '--mantine-color-body': '#f3f4f6',
    '--mantine-color-text': '#16181d',
    '--mantine-color-dimmed': '#596070',
    '--mantine-color-placeholder': '#6b7280',
    '--mantine-color-error': '#a3161f',
    '--sheet': '#ffffff',
    '--mantine-color-default-border': '#8b93a3',
    '--edge': '#d5d9e0',
    '--line': '#8b93a3',
    '--good': '#1a6b35',
    '--warn': '#8a4b00',
    '--bad': '#a3161f',
    '--bad-ground': '#fdecec',
    '--warn-ground': '#fff4e0',
  },
  dark: {
    '--mantine-color-body': '#101216',
    '--mantine-color-text': '#eceef2',
    '--mantine-color-dimmed': '#a3abba',
    '--mantine-color-placeholder': '#98a1b0',
    '--mantine-color-error': '#ffb3b3',
    '--mantine-primary-color-contrast': '#0c1430',
    '--sheet': '#191c22',
    '--mantine-color-default-border': '#6c7484',
    '--edge': '#373d49',
    '--line': '#6c7484',
    '--good': '#86d9a0',
    '--warn': '#f2c078',
    '--bad': '#ffb3b3',
    '--bad-ground': '#3a1a1d',
    '--warn-ground': '#33270f',
  },
});
