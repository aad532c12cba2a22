import { useQueryClient } from '@tanstack/react-query';
import { keys } from '../api/queries.ts';
import { useServices } from '../context.ts';

/** Reads everything about tokens again, here and in the other tabs. */
export function useTokensChanged(): () => void {
  const queryClient = useQueryClient();
  const { session } = useServices();
  return () => {
    for (const queryKey of [keys.tokens, keys.me]) void queryClient.invalidateQueries({ queryKey });
    session.send({ type: 'tokens-changed' });
  };
}
