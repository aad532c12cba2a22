import { Center, Loader } from '@mantine/core';
import { useTexts } from '../texts/index.tsx';
import { useTitle } from './use-title.ts';

/** The whole page, before there is anything to show. */
export function Waiting() {
  const texts = useTexts();
  useTitle(texts.loading);
  return (
    <Center component="main" mih="100vh">
      <h1 className="visually-hidden">{texts.product}</h1>
      <Loader aria-label={texts.loading} role="status" />
    </Center>
  );
}
