// The floors of docs/architecture.md: imports only go down, siblings never import each other.
const floor = (name, from, allowed) => ({
  name,
  severity: 'error',
  from: { path: from },
  to: { path: '^(config|server|dashboard|migrations|seeds|sdk|test|bench)/', pathNot: allowed },
});

export default {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    floor('config-imports-nothing', '^config/', '^config/'),
    floor('domain-is-pure', '^server/domain/', '^(server/domain|config/policy)'),
    floor('storage-sees-domain', '^server/storage/', '^(server/(storage|domain)|config)/'),
    floor('keys-see-storage', '^server/keys/', '^(server/(keys|storage|domain)|config)/'),
    floor('metrics-see-keys', '^server/metrics/', '^(server/(metrics|keys|storage|domain|version)|config)'),
    floor('tracing-sees-http', '^server/tracing/', '^(server/(tracing|http|storage|domain|version)|config)'),
    {
      name: 'only-tracing-imports-opentelemetry',
      severity: 'error',
      from: { path: '^server/', pathNot: '^server/tracing/' },
      to: { path: 'node_modules/@opentelemetry/' },
    },
    floor('http-sees-no-sibling', '^server/http/', '^(server/(http|keys|storage|domain)|config)/'),
    floor('admin-sees-http', '^server/admin/', '^(server/(admin|http|keys|storage|domain)|config)/'),
    floor('leaks-see-http', '^server/leaks/', '^(server/(leaks|http|keys|storage|domain)|config)/'),
    floor('oidc-sees-http', '^server/oidc/', '^(server/(oidc|http|keys|storage|domain)|config)/'),
    {
      name: 'nobody-sees-who-starts',
      severity: 'error',
      from: { path: '^server/', pathNot: '^server/(main|cluster|workers?|start)\\.ts$' },
      to: { path: '^server/(main|cluster|workers?|start)\\.ts$' },
    },
    {
      name: 'rooms-see-no-hall',
      severity: 'error',
      from: { path: '^server/[^/]+/' },
      to: { path: '^server/[^/]+\\.ts$', pathNot: '^server/version\\.ts$' },
    },
    // What the browser runs knows the server by its API alone.
    floor('dashboard-is-a-client', '^dashboard/src/', '^dashboard/src/'),
    floor(
      'dashboard-session-is-the-base',
      '^dashboard/src/session/',
      '^dashboard/src/(session/|settings|storage)',
    ),
    floor(
      'dashboard-api-sees-the-session',
      '^dashboard/src/api/',
      '^dashboard/src/(api/|session/|settings|storage)',
    ),
    floor(
      'dashboard-texts-know-no-view',
      '^dashboard/src/texts/',
      '^dashboard/src/(texts/|api/|session/|settings|storage)',
    ),
    floor('dashboard-ui-knows-no-view', '^dashboard/src/ui/', '^dashboard/src/(ui|texts|api)/'),
    floor('dashboard-tokens-know-no-shell', '^dashboard/src/tokens/', '^dashboard/src/(?!shell/)'),
    // What product teams install knows the server by the RFCs alone, and runs where there is no Node.js.
    {
      name: 'verifier-has-jose-alone',
      severity: 'error',
      from: { path: '^sdk/verifier/src/' },
      to: { pathNot: '^sdk/verifier/src/|node_modules/jose/' },
    },
    {
      name: 'client-has-nothing',
      severity: 'error',
      from: { path: '^sdk/client/src/', pathNot: '^sdk/client/src/command' },
      to: { pathNot: '^sdk/client/src/(?!command)' },
    },
    {
      name: 'client-command-has-node-alone',
      severity: 'error',
      from: { path: '^sdk/client/src/command' },
      to: { pathNot: '^sdk/client/src/', dependencyTypesNot: ['core'] },
    },
    // They stand for an implementation of others: what makes them shares no code with what they test.
    floor('vectors-are-alone', '^sdk/vectors/', '^sdk/vectors/'),
    {
      name: 'domain-has-no-frameworks',
      severity: 'error',
      from: { path: '^server/domain/' },
      to: { path: 'node_modules/(koa|@koa|knex|pg|oidc-provider)/' },
    },
    {
      name: 'only-oidc-imports-the-provider',
      severity: 'error',
      from: { path: '^server/', pathNot: '^server/oidc/' },
      to: { path: 'node_modules/(@types/)?oidc-provider' },
    },
    {
      name: 'only-storage-imports-sql-drivers',
      severity: 'error',
      from: { path: '^server/', pathNot: '^server/storage/' },
      to: { path: 'node_modules/(@types/)?(knex|pg)/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'production-code-has-no-dev-dependencies',
      severity: 'error',
      from: { path: '^(config|server|migrations|seeds)/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg'], dependencyTypesNot: ['type-only'] },
    },
  ],
  options: {
    parser: 'swc',
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^sdk/[^/]+/dist/' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      extensions: ['.ts', '.tsx', '.d.ts', '.js', '.mjs', '.json', '.css'],
    },
  },
};
