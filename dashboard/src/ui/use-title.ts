import { useEffect } from 'react';
import { useTexts } from '../texts/index.tsx';

/** Names the view in the browser's tab and history. */
export function useTitle(title: string): void {
  const { product } = useTexts();
  useEffect(() => {
    document.title = `${title} · ${product}`;
  }, [title, product]);
}
