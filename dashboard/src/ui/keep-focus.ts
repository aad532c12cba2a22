/** An element that had the focus, and after it its surroundings that can take it, the nearest first. */
type Path = readonly HTMLElement[];

const remembered = 20;
// After what the library does by itself when something closes.
const patienceMs = 30;

/**
 * What has the focus may go: a row that is deleted, a button that has nothing to do any longer, a window. Then its
 * surroundings get the focus, or what had it before. Else it would be on the page as a whole, and whoever uses a keyboard
 * or a screen reader would begin at the top again.
 */
export function keepFocus(): void {
  let trail: readonly Path[] = [];
  /** Whether it was given up by a click beside everything. */
  let given = false;
  let timer: number | undefined;

  document.addEventListener('focusin', ({ target }) => {
    if (!(target instanceof HTMLElement)) return;
    trail = [pathOf(target), ...trail.filter(([element]) => element !== target)].slice(0, remembered);
    given = false;
  });
  document.addEventListener('focusout', ({ target }) => {
    given = isFocusable(target as HTMLElement);
  });

  const observer = new MutationObserver(() => {
    clearTimeout(timer);
    timer = window.setTimeout(restore, patienceMs);
  });
  observer.observe(document.body, { childList: true, subtree: true, attributeFilter: ['disabled'] });

  function restore(): void {
    const [last] = trail[0] ?? [];
    const isElsewhere = document.activeElement !== document.body && !last?.matches(':disabled');
    // A button whose work goes on is there again afterwards.
    const isWaiting = last?.isConnected && last.matches('[data-loading]');
    if (isElsewhere || isWaiting || (given && isFocusable(last))) return;
    const heir = trail.flatMap((path) => path.find(isFocusable) ?? []).at(0);
    heir?.focus({ preventScroll: true });
  }
}

function pathOf(element: HTMLElement): Path {
  const path = [element];
  for (let outer = element.parentElement; outer; outer = outer.parentElement)
    if (outer.tabIndex >= 0 || outer.hasAttribute('tabindex')) path.push(outer);
  return path;
}

const isFocusable = (element: HTMLElement | undefined) =>
  Boolean(element?.isConnected && element.checkVisibility() && !element.matches(':disabled'));
