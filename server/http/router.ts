import { METHODS } from 'node:http';
import Router from '@koa/router';

/**
 * A router in which a path has one spelling. It knows every method that Node reads, so that one which a path does not
 * take is 405 with `Allow`, and on a path that is not there 404: by itself it would answer 501.
 */
export function createRouter(prefix = ''): Router {
  return new Router({ prefix, sensitive: true, strict: true, methods: METHODS });
}
