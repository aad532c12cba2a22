import { Button } from '@mantine/core';
import { Component, type ReactNode } from 'react';
import { useTexts } from '../texts/index.tsx';
import { PageNotice } from './notice.tsx';
import { SolePage } from './sole-page.tsx';

/** A fault of the page is said, where React would leave it blank. */
export class ErrorBoundary extends Component<{ readonly children: ReactNode }, { broken: boolean }> {
  override state = { broken: false };

  static getDerivedStateFromError() {
    return { broken: true };
  }

  override render() {
    return this.state.broken ? <Broken /> : this.props.children;
  }
}

function Broken() {
  const texts = useTexts();
  const reload = <Button onClick={() => location.reload()}>{texts.reload}</Button>;
  return (
    <SolePage>
      <PageNotice title={texts.unexpected} role="alert" action={reload}>
        {texts.unexpectedText}
      </PageNotice>
    </SolePage>
  );
}
