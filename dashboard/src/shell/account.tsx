import { Paper, Table } from '@mantine/core';
import { useCurrent } from '../organization.tsx';
import { useTexts } from '../texts/index.tsx';
import { useTitle } from '../ui/use-title.ts';
import classes from './shell.module.css';

/** Who the user is, and where they belong. */
export function Account() {
  const texts = useTexts();
  const { me } = useCurrent();
  useTitle(texts.account);
  return (
    <Paper withBorder p="md" maw={720} bg="var(--sheet)">
      <Table variant="vertical" className={classes.facts}>
        <Table.Tbody>
          <Table.Tr>
            <Table.Th>{texts.name}</Table.Th>
            <Table.Td>{me.name}</Table.Td>
          </Table.Tr>
          <Table.Tr>
            <Table.Th>{texts.email}</Table.Th>
            <Table.Td>{me.email}</Table.Td>
          </Table.Tr>
          <Table.Tr>
            <Table.Th>{texts.memberships}</Table.Th>
            <Table.Td>
              {me.memberships.map(({ organization, role }) => (
                <div key={organization.id}>
                  {organization.name} ({texts.roles[role]})
                </div>
              ))}
            </Table.Td>
          </Table.Tr>
        </Table.Tbody>
      </Table>
    </Paper>
  );
}
