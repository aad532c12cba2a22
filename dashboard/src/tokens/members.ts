import { useQuery } from '@tanstack/react-query';
import type { AuditEvent, Member } from '../api/client.ts';
import { useServices } from '../context.ts';
import { useCurrent } from '../organization.tsx';
import { useTexts } from '../texts/index.tsx';

export function nameOfMember(member: Member | undefined): string | undefined {
  return member && `${member.name} (${member.email})`;
}

/** The organization's members of these ids, and what to write for one of them; for admins, who may read them. */
export function useMembers(organizationId: string, userIds: readonly string[], enabled = true) {
  const texts = useTexts();
  const { queries } = useServices();
  const ids = enabled ? [...new Set(userIds)].sort().slice(0, 100) : [];
  const query = useQuery(queries.membersById(organizationId, ids));
  const find = (id: string) => query.data?.get(id);
  return {
    find,
    /** Only whom the server does not know as a member is a former one: it may not have answered yet, or not at all. */
    name(id: string, of: (member: Member) => string = ({ name }) => name): string {
      const member = find(id);
      if (member) return of(member);
      if (query.isError) return id;
      return query.isPending || query.isPlaceholderData ? '…' : texts.actorUser;
    },
  };
}

/** Who did it, as far as the user may know. */
export function useActorName(organizationId: string, actors: readonly AuditEvent['actor'][]) {
  const texts = useTexts();
  const { me } = useCurrent();
  const isAdmin = me.memberships.some(
    ({ organization, role }) => organization.id === organizationId && role === 'admin',
  );
  const others = actors.filter(({ type, id }) => type === 'user' && id !== me.id).map(({ id }) => id);
  const members = useMembers(organizationId, others, isAdmin);
  return ({ type, id }: AuditEvent['actor']): string => {
    if (type === 'client') return texts.actorClient(id);
    if (type !== 'user') return texts.actorSystem;
    if (id === me.id) return texts.actorSelf;
    // Nobody but the organization's admins can have done something to a member's token.
    return isAdmin ? members.name(id, (member) => nameOfMember(member) ?? id) : texts.actorAdmin;
  };
}
