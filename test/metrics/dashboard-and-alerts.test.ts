import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createHarness, exchange, type Harness, kek } from '../support/harness.ts';
import { createProcesses, type Processes } from '../support/processes.ts';

/** docs/operating/: what it names is there, and Prometheus' own tool accepts the rules. */

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly expr: string; readonly refId: string }[];
}
interface Dashboard {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly type: string }[] };
}

const read = (file: string) => readFile(new URL(`../../docs/operating/${file}`, import.meta.url), 'utf8');
const directory = new URL('../../docs/operating/', import.meta.url).pathname;
const hasPromtool = spawnSync('promtool', ['--version']).status === 0;

let harness: Harness;
let processes: Processes;
let exposed: { text: string; openMetrics: string };
let rules: string;
let rulesTest: string;
let dashboard: Dashboard;
beforeAll(async () => {
  processes = await createProcesses();
  rules = await read('alerts.yml');
  rulesTest = await read('alerts.test.yml');
  dashboard = JSON.parse(await read('grafana-dashboard.json'));
  harness = await createHarness();
  const { token } = await harness.build.platformToken();
  const server = await processes.start({
    DATABASE_URL: harness.databaseUrl,
    KEY_ENCRYPTION_KEY: kek.toString('base64url'),
  });
  expect((await exchange(server.url, token)).status).toBe(200);
  await fetch(`${server.url}/oauth/status-lists/0`);
  const metrics = async (accept: string) =>
    (await fetch(`${server.url}/metrics`, { headers: { accept } })).text();
  // Tokens are counted and the listener connects soon after the start.
  await vi.waitFor(
    async () => {
      const text = await metrics('*/*');
      expect(text).toMatch(/^platform_tokens_tokens\{status="active"\} [1-9]/m);
      expect(text).toMatch(/^platform_tokens_database_listener_connected 1$/m);
    },
    { timeout: 10_000 },
  );
  exposed = {
    text: await metrics('*/*'),
    openMetrics: await metrics('application/openmetrics-text;version=1.0.0'),
  };
});
afterAll(async () => {
  await processes.close();
  await harness.close();
});

const expressions = () => dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
const namesIn = (text: string) =>
  new Set(
    [...text.matchAll(/(?<![\w:])(?:platform_tokens|process|nodejs)_\w+(?![\w:])/g)].map(([name]) => name),
  );
/** As Prometheus files them: a histogram under three names. */
const families = () =>
  new Map([...exposed.text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]));
const familyOf = (name: string) => {
  const known = families();
  const base = name.replace(/_(bucket|sum|count)$/, '');
  return known.get(base) === 'histogram' ? base : name;
};
const labelsOf = (family: string) => {
  const samples = exposed.text.matchAll(new RegExp(`^${family}(?:_bucket)?\\{(.*)\\} `, 'gm'));
  return new Set(
    [...samples].flatMap(([, labels = '']) => [...labels.matchAll(/(\w+)="/g)].map((m) => m[1])),
  );
};

describe('what a server exposes', () => {
  it('has every metric that the dashboard and the rules name', () => {
    const alerts = rules.split('\n').filter((line) => !line.includes('record:'));
    const named = namesIn([...alerts, ...expressions()].join('\n'));
    expect(named.size).toBeGreaterThan(40);
    const known = families();
    expect([...named].filter((name) => !known.has(familyOf(name)))).toEqual([]);
  });

  it('has every label by which they choose', () => {
    const mistaken: string[] = [];
    for (const text of [rules, ...expressions()]) {
      for (const [, name = '', selector = ''] of text.matchAll(/(platform_tokens_\w+)\{([^}]*)\}/g)) {
        const labels = [...selector.matchAll(/(\w+)\s*[=!]~?/g)].map((match) => match[1] as string);
        const known = labelsOf(familyOf(name));
        const own = labels.filter((label) => !['job', 'instance'].includes(label));
        mistaken.push(...own.filter((label) => !known.has(label)).map((label) => `${name}{${label}}`));
      }
    }
    // Counters that have no sample before their first event.
    expect(mistaken.filter((one) => !one.startsWith('platform_tokens_limited_total'))).toEqual([]);
  });

  it('is all in the dashboard, so that nothing is counted in vain', () => {
    const shown = new Set([...namesIn(expressions().join('\n'))].map(familyOf));
    expect([...families().keys()].filter((name) => !shown.has(String(name)))).toEqual([]);
  });

  it('has as many samples in OpenMetrics, and an end', () => {
    const names = (text: string) => text.split('\n').filter((line) => line && !line.startsWith('#')).length;
    expect(Math.abs(names(exposed.openMetrics) - names(exposed.text))).toBeLessThan(5);
    expect(exposed.openMetrics).toMatch(/\n# EOF\n$/);
  });
});

describe('the dashboard', () => {
  it('has a data source to choose, and panels that do not lie upon each other', () => {
    expect(dashboard.templating.list[0]).toMatchObject({ name: 'datasource', type: 'datasource' });
    const ids = dashboard.panels.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const places = new Set<string>();
    for (const { gridPos, title } of dashboard.panels) {
      expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(places.has(`${x} ${y}`), title).toBe(false);
          places.add(`${x} ${y}`);
        }
    }
  });

  it('asks the chosen data source everywhere', () => {
    for (const panel of dashboard.panels.filter(({ type }) => type !== 'row')) {
      expect(JSON.stringify(panel)).not.toMatch(/"uid":"(?!\$\{datasource\})/);
      expect(panel.targets?.length, panel.title).toBeGreaterThan(0);
    }
  });
});

describe('the rules', () => {
  it('each have a summary, a description, what to do, a severity, and a test', () => {
    const alerts = rules.split('- alert: ').slice(1);
    expect(alerts.length).toBeGreaterThan(15);
    for (const alert of alerts) {
      const name = alert.slice(0, alert.indexOf('\n'));
      for (const part of ['summary:', 'description:', 'action:', 'severity:'])
        expect(alert, name).toContain(part);
      expect(rulesTest).toContain(`alertname="${name}"`);
    }
  });

  it.runIf(process.env.REQUIRE_PROMTOOL)('are checked by promtool here', () => {
    expect(hasPromtool).toBe(true);
  });

  describe.runIf(hasPromtool)('by promtool', () => {
    const promtool = (args: string[], input?: string) =>
      execFileSync('promtool', args, { encoding: 'utf8', ...(input === undefined ? {} : { input }) });

    it('are valid, and fire when they should and not before', { timeout: 90_000 }, () => {
      expect(promtool(['check', 'rules', join(directory, 'alerts.yml')])).toContain('SUCCESS');
      expect(promtool(['test', 'rules', join(directory, 'alerts.test.yml')])).toContain('SUCCESS');
    });

    it('have company in the expressions of the dashboard', async () => {
      const folder = await mkdtemp(join(tmpdir(), 'platform-tokens-rules-'));
      const file = join(folder, 'dashboard.yml');
      const list = expressions().map((expr, index) => ({
        record: `panel:${index}`,
        expr: expr.replaceAll('$__rate_interval', '5m'),
      }));
      await writeFile(file, JSON.stringify({ groups: [{ name: 'dashboard', rules: list }] }));
      expect(promtool(['check', 'rules', file])).toContain(`SUCCESS: ${list.length} rules found`);
      await rm(folder, { recursive: true });
    });

    it('read metrics that keep to the conventions', () => {
      expect(promtool(['check', 'metrics'], exposed.text)).toBe('');
    });
  });
});
