import {
  Alert,
  Badge,
  Button,
  type ComboboxItem,
  Group,
  Modal,
  Select,
  Stack,
  Text,
  TextInput,
} from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { isPassing, Refused, type Service, unwrap } from '../api/client.ts';
import { useServices } from '../context.ts';
import type { Membership } from '../organization.tsx';
import { tokenLifetimeDays } from '../settings.ts';
import { useLocalization } from '../texts/index.tsx';
import { formatTime } from '../ui/moment.tsx';
import { orNothing } from '../ui/or-nothing.ts';
import { useAction } from '../ui/use-action.ts';
import { useShowOnce } from './one-time-token.tsx';
import { createSecret, type Secret } from './secret.tsx';
import classes from './tokens.module.css';
import { useTokensChanged } from './use-tokens-changed.ts';

/** The button, and the window behind it: what the token shall be, or why there can be none. */
export function GenerateToken({ membership }: { readonly membership: Membership }) {
  const { texts } = useLocalization();
  const showOnce = useShowOnce();
  const [opened, setOpened] = useState<'form' | 'limit'>();
  const [pending, setPending] = useState(false);
  // Outlives the window: what was typed is still there when it is opened again.
  const [draft, setDraft] = useState<Draft>(emptyDraft);
  // While the answer is awaited the window stays: a token whose window had gone would be lost.
  const close = () => {
    if (!pending) setOpened(undefined);
  };

  return (
    <>
      <Button onClick={() => setOpened(membership.tokens_remaining === 0 ? 'limit' : 'form')}>
        {texts.generateToken}
      </Button>
      <Modal
        opened={opened !== undefined}
        onClose={close}
        title={opened === 'limit' ? texts.limitTitle : texts.generateTitle}
        closeOnClickOutside={false}
        closeButtonProps={{ 'aria-label': texts.close }}
      >
        {opened === 'limit' ? (
          <Stack>
            <Text>{texts.limitText(membership.token_limit, membership.organization.name)}</Text>
            <Button variant="default" data-autofocus onClick={close}>
              {texts.close}
            </Button>
          </Stack>
        ) : (
          <GenerateForm
            organizationId={membership.organization.id}
            draft={draft}
            onDraft={setDraft}
            onPending={setPending}
            onCancel={close}
            onLimit={() => setOpened('limit')}
            onCreated={(created) => {
              setOpened(undefined);
              setDraft(emptyDraft);
              showOnce(created);
            }}
          />
        )}
      </Modal>
    </>
  );
}

interface Draft {
  readonly name: string;
  readonly serviceId: string | null;
}

const emptyDraft: Draft = { name: '', serviceId: null };

// Characters are counted by the server: one may be several units here.
const nameMaximum = 400;

interface Faults {
  readonly name?: string;
  readonly service?: string;
  readonly form?: string;
}

function GenerateForm({
  organizationId,
  draft,
  onDraft,
  onPending,
  onCancel,
  onLimit,
  onCreated,
}: {
  readonly organizationId: string;
  readonly draft: Draft;
  readonly onDraft: (draft: Draft) => void;
  readonly onPending: (pending: boolean) => void;
  readonly onCancel: () => void;
  readonly onLimit: () => void;
  readonly onCreated: (secret: Secret) => void;
}) {
  const { texts, locale } = useLocalization();
  const { api, queries } = useServices();
  const tokensChanged = useTokensChanged();
  const services = useQuery(queries.services());
  const { name, serviceId } = draft;
  const [faults, setFaults] = useState<Faults>({});
  const available = services.data?.filter(({ status }) => status === 'active') ?? [];
  const service = available.find(({ id }) => id === serviceId);

  const generate = useAction(async (wanted: Service) => {
    onPending(true);
    try {
      const body = { name, service: wanted.id, organization_id: organizationId };
      const { token } = unwrap(await api.POST('/admin/tokens', { body }));
      onCreated(createSecret(token));
    } catch (error) {
      if (error instanceof Refused && error.kind === 'token-limit-reached') onLimit();
      setFaults(readFaults(error));
      if (error instanceof Refused && /^service-/.test(error.kind)) void services.refetch();
    } finally {
      onPending(false);
      // Also where it failed: the limit may be reached, or a token be there whose answer got lost.
      tokensChanged();
    }
  });

  function readFaults(error: unknown): Faults {
    if (isPassing(error)) return { form: texts.notCreatedNoAnswer };
    const { kind, problem } = error as Refused;
    if (/^service-/.test(kind)) return { service: texts.serviceGone };
    if (problem.errors?.some(({ pointer }) => pointer === '/name')) return { name: texts.tokenNameInvalid };
    if (problem.status === 403 || problem.status === 404 || kind === 'not-a-member')
      return { form: texts.noPermissionText };
    return { form: texts.failedText };
  }

  function submit(event: FormEvent) {
    event.preventDefault();
    const missing: Faults = {
      ...(name.trim() === '' ? { name: texts.tokenNameMissing } : {}),
      ...(service ? {} : { service: texts.serviceMissing }),
    };
    setFaults(missing);
    if (service && name.trim() !== '') void generate.run(service);
  }

  const endsAt = new Date(Date.now() + tokenLifetimeDays * 86_400_000);
  return (
    <form onSubmit={submit} noValidate>
      <Stack>
        <TextInput
          label={texts.tokenName}
          description={texts.tokenNameHelp}
          value={name}
          onChange={(event) => onDraft({ ...draft, name: event.currentTarget.value })}
          error={faults.name}
          maxLength={nameMaximum}
          autoComplete="off"
          required
          data-autofocus
        />
        <Select
          label={texts.service}
          placeholder={services.isPending ? texts.loading : texts.chooseService}
          searchable
          filter={({ options, search }) => {
            const matching = (options as ComboboxItem[]).filter(({ label }) =>
              label.toLowerCase().includes(search.trim().toLowerCase()),
            );
            return orNothing(matching, texts.nothingFound);
          }}
          data={available.map(({ id, name: label }) => ({ value: id, label }))}
          value={serviceId}
          onChange={(chosen) => onDraft({ ...draft, serviceId: chosen })}
          error={faults.service ?? (services.isError ? texts.failedText : undefined)}
          allowDeselect={false}
          required
          comboboxProps={{ transitionProps: { duration: 0 } }}
        />
        <div role="status">
          {service ? (
            <Stack gap={6}>
              <Text size="sm">{texts.willBeAble}</Text>
              <Group gap={6}>
                {service.scopes.map((scope) => (
                  <Badge key={scope} variant="default" tt="none" maw="100%">
                    {scope}
                  </Badge>
                ))}
              </Group>
              <Text size="sm" c="dimmed">
                {texts.willEnd(formatTime(endsAt, locale, 'day'))}
              </Text>
            </Stack>
          ) : null}
        </div>
        {faults.form ? (
          <Alert className={classes.fault} classNames={{ message: classes.alert ?? '' }} role="alert">
            {faults.form}
          </Alert>
        ) : null}
        <Group justify="flex-end">
          <Button variant="default" disabled={generate.pending} onClick={onCancel}>
            {texts.cancel}
          </Button>
          <Button type="submit" loading={generate.pending}>
            {texts.generate}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
