import type { Knex } from 'knex';
import { DatabaseUnavailableError, isSilence } from './failures.ts';

export interface KnexBoundsDeps {
  /** Queries and transactions that wait for a connection. */
  readonly maximumWaiting: number;
  /** @throws where no query can be answered now */
  readonly refuse: () => void;
  /** Told of every query and connection that failed. */
  readonly onFailure: (error: unknown) => void;
}

type Callback = (error: unknown, result: unknown) => void;
type Query = (statement: unknown, callback?: Callback) => unknown;

/** What Knex knows of a connection of the driver. */
interface Connection {
  query: Query;
  readonly connection?: { readonly stream: { destroy(): void } };
}

interface KnexClient {
  readonly pool: { numPendingAcquires(): number } | undefined;
  acquireConnection(): Promise<unknown>;
}

/** What of Knex's pool is to be known when it is made, and what follows when it is there. */
export function createKnexBounds({ maximumWaiting, refuse, onFailure }: KnexBoundsDeps) {
  let generation = 0;
  const madeIn = new WeakMap<object, number>();

  /** After its timeout a query is still under way on its connection, and the next one would wait behind it. */
  function cutWhenSilent(connection: Connection): void {
    const query: Query = connection.query.bind(connection);
    const onError = (error: unknown) => {
      if (isSilence(error)) connection.connection?.stream.destroy();
      onFailure(error);
    };
    connection.query = (statement, callback) => {
      // Knex passes a callback; who borrows the connection from it may take the promise instead.
      if (!callback) {
        const answer = query(statement) as Promise<unknown>;
        answer.catch(onError);
        return answer;
      }
      return query(statement, (error, result) => {
        if (error) onError(error);
        callback(error, result);
      });
    };
  }

  return {
    pool: {
      afterCreate(connection: Connection, done: (error: unknown, connection: Connection) => void): void {
        madeIn.set(connection, generation);
        cutWhenSilent(connection);
        done(null, connection);
      },
      validate: (connection: object) => madeIn.get(connection) === generation,
    },

    /** Connections that were made before are not used again. */
    renew(): void {
      generation += 1;
    },

    /** Every query and every transaction begins with a connection: the one place to refuse it. */
    bind(queries: Knex): void {
      const client = queries.client as KnexClient;
      const acquire = client.acquireConnection.bind(client);
      client.acquireConnection = async () => {
        refuse();
        if ((client.pool?.numPendingAcquires() ?? 0) >= maximumWaiting)
          throw new DatabaseUnavailableError('too many queries wait for a connection');
        try {
          return await acquire();
        } catch (error) {
          onFailure(error);
          throw error;
        }
      };
    },
  };
}
