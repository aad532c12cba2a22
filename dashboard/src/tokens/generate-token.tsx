import { Alert, Badge, Button, Group, Modal, Select, Stack, Text, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { isPassing, Refused, type Service, unwrap } from '../api/client.ts';
import { useServices } from '../context.ts';
import type { Membership } from '../organization.tsx';
import { tokenLifetimeDays } from '../settings.ts';
import { useLocalization } from '../texts/index.tsx';
import { formatTime } from '../ui/moment.tsx';
import { useAction } from '../ui/use-action.ts';
import { useShowOnce } from './one-time-token.tsx';
import { createSecret, type Secret } from './secret.tsx';
import { useTokensChanged } from './use-tokens-changed.ts';

/** The button, and the two windows behind it: what the token shall be, and the token, once. */
export function GenerateToken({ membership }: { readonly membership: Membership }) {
  const { texts } = useLocalization();
  const [asking, setAsking] = useState(false);
  const showOnce = useShowOnce();
  const isAtLimit = membership.tokens_remaining === 0;

  return (
    <>
      <Button onClick={() => setAsking(true)}>{texts.generateToken}</Button>
      <Modal
        opened={asking}
        onClose={() => setAsking(false)}
        title={isAtLimit ? texts.limitTitle : texts.generateTitle}
        closeOnClickOutside={false}
        closeButtonProps={{ 'aria-label': texts.close }}
      >
        {isAtLimit ? (
          <Stack>
            <Text>{texts.limitText(membership.token_limit, membership.organization.name)}</Text>
            <Button variant="default" data-autofocus onClick={() => setAsking(false)}>
              {texts.close}
            </Button>
          </Stack>
        ) : (
          <GenerateForm
            organizationId={membership.organization.id}
            onCancel={() => setAsking(false)}
            onCreated={(created) => {
              setAsking(false);
              showOnce(created);
            }}
          />
        )}
      </Modal>
    </>
  );
}

interface Faults {
  readonly name?: string;
  readonly service?: string;
  readonly form?: string;
}

function GenerateForm({
  organizationId,
  onCancel,
  onCreated,
}: {
  readonly organizationId: string;
  readonly onCancel: () => void;
  readonly onCreated: (secret: Secret) => void;
}) {
  const { texts, locale } = useLocalization();
  const { api, queries } = useServices();
  const tokensChanged = useTokensChanged();
  const services = useQuery(queries.services());
  const [name, setName] = useState('');
  const [serviceId, setServiceId] = useState<string | null>(null);
  const [faults, setFaults] = useState<Faults>({});
  const available = services.data?.filter(({ status }) => status === 'active') ?? [];
  const service = available.find(({ id }) => id === serviceId);

  const generate = useAction(async (wanted: Service) => {
    try {
      const body = { name, service: wanted.id, organization_id: organizationId };
      const { token } = unwrap(await api.POST('/admin/tokens', { body }));
      onCreated(createSecret(token));
    } catch (error) {
      setFaults(readFaults(error));
      if (error instanceof Refused && /^service-/.test(error.kind)) void services.refetch();
    } finally {
      // Also where it failed: the limit may be reached, or a token be there whose answer got lost.
      tokensChanged();
    }
  });

  function readFaults(error: unknown): Faults {
    if (isPassing(error)) return { form: texts.notCreatedNoAnswer };
    const { kind, problem } = error as Refused;
    if (/^service-/.test(kind)) return { service: texts.serviceGone };
    if (problem.errors?.some(({ pointer }) => pointer === '/name')) return { name: texts.tokenNameInvalid };
    // Then the list that is read again says how many there are, and this form gives way to the explanation.
    if (kind === 'token-limit-reached') return {};
    return { form: problem.status < 500 ? texts.noPermissionText : texts.failedText };
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
          onChange={(event) => setName(event.currentTarget.value)}
          error={faults.name}
          maxLength={100}
          autoComplete="off"
          required
          data-autofocus
        />
        <Select
          label={texts.service}
          placeholder={services.isPending ? texts.loading : texts.chooseService}
          data={available.map(({ id, name: label }) => ({ value: id, label }))}
          value={serviceId}
          onChange={setServiceId}
          error={faults.service}
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
          <Alert color="red" variant="outline" role="alert">
            {faults.form}
          </Alert>
        ) : null}
        <Group justify="flex-end">
          <Button variant="default" onClick={onCancel}>
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
