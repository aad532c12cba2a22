import Router from '@koa/router';

/** JSON Schema as the OpenAPI document has it; what of it the generators read. */
export interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly format?: string;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly anyOf?: readonly Schema[];
}

export interface Route {
  readonly method: string;
  /** With `{parameters}`. */
  readonly path: string;
  readonly query: readonly { readonly name: string; readonly schema: Schema }[];
  readonly body: Schema | undefined;
}

interface OpenApi {
  readonly paths: Readonly<
    Record<
      string,
      Record<
        string,
        {
          parameters?: { in: string; name: string; schema: Schema }[];
          requestBody?: { content: Record<string, { schema: Schema }> };
        }
      >
    >
  >;
}

/**
 * Notes every route of every router that is made from now on: how the application is wired, from the wiring itself.
 * @returns what was noted, and an end to it
 */
export function watchRouters(): { readonly routes: Route[]; stop(): void } {
  const routes: Route[] = [];
  const { register } = Router.prototype;
  const noted: typeof register = function (this: Router, path, methods, ...rest) {
    if (typeof path === 'string') {
      const whole = `${this.opts.prefix ?? ''}${path}`.replace(/\{\*(\w+)\}|:(\w+)/g, '{$1$2}');
      for (const method of methods)
        routes.push({ method: method.toUpperCase(), path: whole, query: [], body: undefined });
    }
    return register.call(this, path, methods, ...rest);
  };
  Router.prototype.register = noted;
  return {
    routes,
    stop() {
      Router.prototype.register = register;
    },
  };
}

/** What the metadata documents name, with the method that each is for. */
const endpoints: Readonly<Record<string, string>> = {
  authorization_endpoint: 'GET',
  token_endpoint: 'POST',
  jwks_uri: 'GET',
  end_session_endpoint: 'GET',
  introspection_endpoint: 'POST',
  revocation_endpoint: 'POST',
};

/** The library's own ways on from its endpoints, which no document names; app.ts lets through these and no more. */
export const libraryPaths = [
  ['GET', '/oauth/authorize/{uid}'],
  ['POST', '/oauth/logout/confirm'],
  ['GET', '/oauth/logout/success'],
] as const;

/** Everything that can be asked for, from the OpenAPI document, the metadata and the wiring: a new route is in it by itself. */
export async function readSurface(url: string, wired: readonly Route[]): Promise<Route[]> {
  const read = async (path: string) => (await (await fetch(url + path)).json()) as unknown;
  const { paths } = (await read('/admin/openapi.json')) as OpenApi;
  const described = Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, { parameters = [], requestBody }]) => ({
      method: method.toUpperCase(),
      path,
      query: parameters.filter((parameter) => parameter.in === 'query'),
      body: requestBody?.content['application/json']?.schema,
    })),
  );
  const metadata = (await read('/.well-known/openid-configuration')) as Record<string, string>;
  const named = Object.entries(metadata)
    .filter(
      ([name, value]) => /_(endpoint|uri)$/.test(name) && String(value).startsWith(`${metadata.issuer}/`),
    )
    .map(([name, value]) => plain(endpoints[name] ?? 'GET', value.slice(String(metadata.issuer).length)));
  const found = new Map<string, Route>();
  for (const route of [...described, ...named, ...libraryPaths.map(([m, p]) => plain(m, p)), ...wired]) {
    // Routers answer HEAD wherever they answer GET; a parameter's name is no difference.
    if (route.method === 'HEAD') continue;
    const key = keyOf(route);
    if (!found.has(key)) found.set(key, route);
  }
  return [...found.values()];
}

export const keyOf = ({ method, path }: Pick<Route, 'method' | 'path'>) =>
  `${method} ${path.replace(/\{\w+\}/g, '{}')}`;

function plain(method: string, path: string): Route {
  return { method, path, query: [], body: undefined };
}
