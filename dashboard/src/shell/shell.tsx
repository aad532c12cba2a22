import { Anchor, Container, Group, NavLink, Tabs, Title } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { type MouseEvent, type ReactNode, useEffect, useSyncExternalStore } from 'react';
import { Link, Redirect, Route, Switch, useLocation } from 'wouter';
import { useServices } from '../context.ts';
import { OrganizationProvider, useCurrent, useHref } from '../organization.tsx';
import { paths } from '../paths.ts';
import { issuer } from '../settings.ts';
import { useTexts } from '../texts/index.tsx';
import { OneTimeTokenProvider } from '../tokens/one-time-token.tsx';
import { MemberTokens, OwnTokens } from '../tokens/pages.tsx';
import { Failure } from '../ui/failure.tsx';
import { PageNotice } from '../ui/notice.tsx';
import { SolePage } from '../ui/sole-page.tsx';
import { Waiting } from '../ui/waiting.tsx';
import { Account } from './account.tsx';
import { OrganizationSwitcher } from './organization-switcher.tsx';
import classes from './shell.module.css';
import { UserMenu } from './user-menu.tsx';

/** The frame of every view: who and which organization at the top, the settings beside. */
export function Shell() {
  const texts = useTexts();
  const { queries } = useServices();
  const me = useQuery(queries.me());
  if (!me.data) {
    if (me.isError) {
      return (
        <SolePage>
          <Failure error={me.error} onRetry={() => void me.refetch()} ofPage />
        </SolePage>
      );
    }
    return (
      <>
        <Away />
        <Waiting />
      </>
    );
  }
  return (
    <OrganizationProvider me={me.data}>
      {/* biome-ignore lint/a11y/useValidAnchor: a link to a part of the page, which by itself the <base> would lead astray */}
      <a href="#content" onClick={skipToContent} className={`visually-hidden ${classes.skip}`}>
        {texts.skipToContent}
      </a>
      <Header />
      <Away />
      <Container size="xl" className={classes.page}>
        <Navigation />
        <main id="content" tabIndex={-1} className={classes.content}>
          <OneTimeTokenProvider>
            <Views />
          </OneTimeTokenProvider>
        </main>
      </Container>
    </OrganizationProvider>
  );
}

function Header() {
  const texts = useTexts();
  const href = useHref();
  return (
    <header className={classes.header}>
      <Container size="xl" className={classes.bar}>
        <Anchor component={Link} href={href(paths.accessTokens)} className={classes.product}>
          <img src="./icon.svg" alt="" width={24} height={24} />
          <span>{texts.product}</span>
        </Anchor>
        <Group gap="xs" wrap="nowrap" miw={0}>
          <OrganizationSwitcher />
          <UserMenu />
        </Group>
      </Container>
    </header>
  );
}

function skipToContent(event: MouseEvent): void {
  event.preventDefault();
  document.getElementById('content')?.focus();
}

const probeMs = 3_000;

/** Says so while the server does not answer, and asks whether it does: whatever had asked before may have given up. */
function Away() {
  const texts = useTexts();
  const { reachability } = useServices();
  const queryClient = useQueryClient();
  const reachable = useSyncExternalStore(reachability.subscribe, reachability.reachable);
  useEffect(() => {
    if (reachable) return;
    const probe = async () => {
      const answer = await fetch(`${issuer}/health/ready`, { cache: 'no-store' }).catch(() => undefined);
      if (!answer?.ok) return;
      reachability.set(true);
      await queryClient.refetchQueries({ type: 'active' });
    };
    const timer = setInterval(() => void probe(), probeMs);
    return () => clearInterval(timer);
  }, [reachable, reachability, queryClient]);
  return (
    <div role="status" className={classes.away}>
      {reachable ? null : (
        <Container size="xl" py="xs">
          <strong>{texts.away}</strong> {texts.awayText}
        </Container>
      )}
    </div>
  );
}

function Navigation() {
  const texts = useTexts();
  const href = useHref();
  const [path] = useLocation();
  const { membership } = useCurrent();
  return (
    <nav
      aria-label={texts.settings}
      className={classes.navigation}
      data-single={membership?.role !== 'admin' || undefined}
    >
      <NavLink
        component={Link}
        href={href(paths.accessTokens)}
        label={texts.profile}
        active={path.startsWith(paths.account)}
      />
      {membership?.role === 'admin' ? (
        <NavLink
          component={Link}
          href={href(paths.members)}
          label={texts.members}
          active={path === paths.members}
        />
      ) : null}
    </nav>
  );
}

function Views() {
  return (
    <Switch>
      <Route path="/">
        <Home />
      </Route>
      <Route path="/settings">
        <Home />
      </Route>
      <Route path={paths.account}>
        <Profile>
          <Account />
        </Profile>
      </Route>
      <Route path={paths.accessTokens}>
        <Profile>
          <WithOrganization level={2}>
            <OwnTokens />
          </WithOrganization>
        </Profile>
      </Route>
      <Route path={paths.members}>
        <WithOrganization level={1}>
          <MemberTokens />
        </WithOrganization>
      </Route>
      <Route>
        <NotFound />
      </Route>
    </Switch>
  );
}

function Home() {
  const href = useHref();
  return <Redirect to={href(paths.accessTokens)} replace />;
}

function Profile({ children }: { readonly children: ReactNode }) {
  const texts = useTexts();
  const href = useHref();
  const [path, navigate] = useLocation();
  return (
    <>
      <Title order={1} size="h2" mb="md">
        {texts.profile}
      </Title>
      <Tabs value={path} onChange={(next) => next && navigate(href(next))} keepMounted={false}>
        <Tabs.List mb="lg">
          <Tabs.Tab value={paths.account}>{texts.account}</Tabs.Tab>
          <Tabs.Tab value={paths.accessTokens}>{texts.accessTokens}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value={path}>{children}</Tabs.Panel>
      </Tabs>
    </>
  );
}

/** @param level of the heading that says why there is none */
function WithOrganization({ level, children }: { readonly level: 1 | 2; readonly children: ReactNode }) {
  const texts = useTexts();
  const { me, membership } = useCurrent();
  // Another organization is another list: nothing of the former one stays.
  if (membership) return <div key={membership.organization.id}>{children}</div>;
  if (me.memberships.length === 0) {
    return (
      <PageNotice title={texts.noOrganization} level={level}>
        {texts.noOrganizationText}
      </PageNotice>
    );
  }
  return (
    <PageNotice title={texts.noPermission} level={level} role="alert">
      {texts.noPermissionText}
    </PageNotice>
  );
}

function NotFound() {
  const texts = useTexts();
  const href = useHref();
  return (
    <PageNotice
      title={texts.notFound}
      action={
        <Anchor component={Link} href={href(paths.accessTokens)}>
          {texts.toAccessTokens}
        </Anchor>
      }
    >
      {texts.notFoundText}
    </PageNotice>
  );
}
