import { MultiSelect, Select, TextInput } from '@mantine/core';
import { useDebouncedCallback, useDebouncedValue } from '@mantine/hooks';
import { useQuery } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { type TokenSort, type TokenStatus, tokenSorts, tokenStatuses } from '../api/queries.ts';
import { useServices } from '../context.ts';
import { useTexts } from '../texts/index.tsx';
import { orNothing } from '../ui/or-nothing.ts';
import { type ChangeList, cleanSearch, type ListState, maximumSearchLength } from './list-state.ts';
import { nameOfMember } from './members.ts';
import classes from './tokens.module.css';

const pauseMs = 250;
const still = { transitionProps: { duration: 0 } };

export function Filters({
  state,
  change,
  organizationId,
  withMembers,
}: {
  readonly state: ListState;
  readonly change: ChangeList;
  readonly organizationId: string;
  readonly withMembers: boolean;
}) {
  const texts = useTexts();
  const { queries } = useServices();
  const services = useQuery(queries.services());
  return (
    <search className={classes.filters}>
      <SearchByName q={state.q} onSearch={(q) => change({ q }, { replace: true })} />
      {withMembers ? (
        <MemberFilter
          organizationId={organizationId}
          userId={state.userId}
          onChange={(userId) => change({ userId })}
        />
      ) : null}
      <MultiSelect
        label={texts.service}
        placeholder={state.services.length ? '' : texts.anyService}
        data={(services.data ?? []).map(({ id, name }) => ({ value: id, label: name }))}
        value={[...state.services]}
        onChange={(chosen) => change({ services: chosen })}
        comboboxProps={still}
      />
      <MultiSelect
        label={texts.status}
        placeholder={state.statuses.length ? '' : texts.anyStatus}
        data={tokenStatuses.map((value) => ({ value, label: texts.statuses[value] }))}
        value={[...state.statuses]}
        onChange={(chosen) => change({ statuses: chosen as TokenStatus[] })}
        comboboxProps={still}
      />
      <Select
        className={classes.sortSelect}
        label={texts.sortBy}
        data={tokenSorts.map((value) => ({ value, label: texts.sorts[value] }))}
        value={state.sort}
        onChange={(sort) => change({ sort: (sort ?? '-created_at') as TokenSort })}
        allowDeselect={false}
        comboboxProps={still}
      />
    </search>
  );
}

/** Searches when the typing pauses; the address follows. */
function SearchByName({ q, onSearch }: { readonly q: string; readonly onSearch: (q: string) => void }) {
  const texts = useTexts();
  const [typed, setTyped] = useState(q);
  const search = useDebouncedCallback((text: string) => onSearch(cleanSearch(text)), pauseMs);
  // The address may change without typing: by the back button, or by clearing all filters.
  useEffect(() => setTyped((present) => (cleanSearch(present) === q ? present : q)), [q]);
  return (
    <TextInput
      className={classes.wide}
      type="search"
      label={texts.searchByName}
      value={typed}
      maxLength={maximumSearchLength}
      autoComplete="off"
      onChange={(event) => {
        setTyped(event.currentTarget.value);
        search(event.currentTarget.value);
      }}
    />
  );
}

/** One member of the organization, found by name or e-mail on the server: there may be thousands. */
function MemberFilter({
  organizationId,
  userId,
  onChange,
}: {
  readonly organizationId: string;
  readonly userId: string | undefined;
  readonly onChange: (userId: string | undefined) => void;
}) {
  const texts = useTexts();
  const { queries } = useServices();
  const [typed, setTyped] = useState('');
  const [search] = useDebouncedValue(typed, pauseMs);
  const chosen = useQuery(queries.membersById(organizationId, userId ? [userId] : []));
  const present = userId ? chosen.data?.get(userId) : undefined;
  // What the field shows for the chosen member is no search.
  const q = present && nameOfMember(present) === search ? '' : cleanSearch(search);
  const found = useQuery(queries.members(organizationId, q));
  const listed = new Map(
    [...(present ? [present] : []), ...(found.data ?? [])].map((member) => [member.user_id, member]),
  );
  return (
    <Select
      className={classes.wide}
      label={texts.member}
      placeholder={texts.anyMember}
      data={[...listed.values()].map((member) => ({
        value: member.user_id,
        label: nameOfMember(member) ?? '',
      }))}
      value={userId ?? null}
      onChange={(id) => onChange(id ?? undefined)}
      searchable
      clearable
      // The server has searched already.
      filter={({ options }) => (found.isSuccess ? orNothing(options, texts.nothingFound) : options)}
      onSearchChange={setTyped}
      comboboxProps={still}
      clearButtonProps={{ 'aria-label': texts.clearFilter(texts.member) }}
    />
  );
}
