import pg from 'pg';

type Callback = (error: Error | null, result?: pg.QueryResult) => void;

/**
 * The driver's client with its `query_timeout` made here, for the queries of its pool, which have a callback. To bound
 * one the driver assigns a function to a property of it. V8 makes such a function in the old space, where no minor
 * collection sees that it is dead: it would keep the query, its rows and whoever waited for them until the next major one.
 * @param limitMs how long an answer may take; then the error is the driver's, and the pool closes the connection
 */
export function boundedClient(limitMs: number): new () => pg.Client {
  class BoundedClient extends pg.Client {
    // As the pool calls it.
    // biome-ignore lint/suspicious/noExplicitAny: the driver types eleven ways to call it
    override query(statement: any, values?: any, callback?: any): any {
      let timer: NodeJS.Timeout | undefined;
      const settle: Callback = (error, result) => {
        clearTimeout(timer);
        callback(error, result);
      };
      const asked = super.query(statement, values, settle);
      timer = setTimeout(() => settle(new Error('Query read timeout')), limitMs);
      return asked;
    }
  }
  return BoundedClient;
}
