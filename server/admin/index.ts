import type Router from '@koa/router';
import { auditEventRoutes } from './audit-events.ts';
import { type AuthenticateDeps, createAuthenticate } from './caller.ts';
import { clientRoutes } from './clients.ts';
import type { AdminDeps } from './deps.ts';
import { createOpenApiDocument } from './openapi.ts';
import { organizationRoutes } from './organizations.ts';
import { createAdminRouter } from './route.ts';
import { serviceRoutes } from './services.ts';
import { signingKeyRoutes } from './signing-keys.ts';
import { tokenRoutes } from './tokens.ts';
import { userRoutes } from './users.ts';
import type { WriteLimit } from './write-limit.ts';

/** The admin API (contract §7). */
export function createAdminApi(
  deps: AdminDeps & AuthenticateDeps & { readonly countWrite: WriteLimit },
): Router {
  const routes = [
    ...tokenRoutes(deps),
    ...organizationRoutes(deps),
    ...userRoutes(deps),
    ...serviceRoutes(deps),
    ...clientRoutes(deps),
    ...auditEventRoutes(deps),
    ...signingKeyRoutes(deps),
  ];
  const router = createAdminRouter(routes, createAuthenticate(deps), deps.countWrite, deps.issuer);
  const openApi = JSON.stringify(createOpenApiDocument(routes, deps.issuer));
  router.get('/openapi.json', (ctx) => {
    ctx.set('Cache-Control', 'public, max-age=300');
    ctx.type = 'application/json';
    ctx.body = openApi;
  });
  return router;
}
