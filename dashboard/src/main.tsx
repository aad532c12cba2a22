import '@mantine/core/styles.css';
import '@mantine/notifications/styles.css';
import './ui/page.css';
import { MantineProvider } from '@mantine/core';
import { Notifications } from '@mantine/notifications';
import { QueryClientProvider } from '@tanstack/react-query';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Router } from 'wouter';
import { createApi } from './api/client.ts';
import { createQueries, createQueryClient, keys } from './api/queries.ts';
import { createReachability } from './api/reachability.ts';
import { App } from './app.tsx';
import { ServicesContext } from './context.ts';
import { createSession } from './session/session.ts';
import { basePath, issuer, styleNonce } from './settings.ts';
import { LocalizationProvider } from './texts/index.tsx';
import { ErrorBoundary } from './ui/error-boundary.tsx';
import { keepFocus } from './ui/keep-focus.ts';
import { cssVariables, theme } from './ui/theme.ts';

function start(): void {
  // The same server under another name (127.0.0.1 for localhost) has other cookies, and no sign-in of its own.
  if (location.origin !== new URL(issuer).origin) {
    location.replace(new URL(location.pathname + location.search, issuer));
    return;
  }
  const session = createSession();
  const reachability = createReachability();
  const api = createApi(session, reachability.set);
  const queryClient = createQueryClient();
  const services = { session, api, queries: createQueries(api), reachability };

  session.subscribe(() => {
    if (session.state() === 'signed-out') queryClient.clear();
  });
  session.onMessage(({ type }) => {
    if (type !== 'tokens-changed') return;
    for (const queryKey of [keys.tokens, keys.me]) void queryClient.invalidateQueries({ queryKey });
  });

  keepFocus();
  createRoot(document.getElementById('root') as HTMLElement).render(
    <StrictMode>
      <MantineProvider
        theme={theme}
        cssVariablesResolver={cssVariables}
        defaultColorScheme="auto"
        getStyleNonce={() => styleNonce}
      >
        <LocalizationProvider>
          <ErrorBoundary>
            <QueryClientProvider client={queryClient}>
              <ServicesContext value={services}>
                <Router base={basePath}>
                  <Notifications position="bottom-center" limit={3} />
                  <App />
                </Router>
              </ServicesContext>
            </QueryClientProvider>
          </ErrorBoundary>
        </LocalizationProvider>
      </MantineProvider>
    </StrictMode>,
  );
  void session.start();
}

start();
