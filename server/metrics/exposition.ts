import type { Distribution, Family } from './registry.ts';

export const formats = {
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
  openMetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
} as const;
export type Format = keyof typeof formats;

/** Prometheus' text format 0.0.4, or OpenMetrics 1.0, where a counter's family is named without `_total`. */
export function writeFamilies(families: readonly Family[], format: Format): string {
  const lines: string[] = [];
  for (const { name, help, type, bounds = [], samples } of families) {
    const family = format === 'openMetrics' && type === 'counter' ? name.replace(/_total$/, '') : name;
    lines.push(`# HELP ${family} ${help}`, `# TYPE ${family} ${type}`);
    for (const [labels, value] of Object.entries(samples)) {
      if (typeof value === 'number') lines.push(line(name, labels, value));
      else writeDistribution(lines, name, labels, bounds, value);
    }
  }
  if (format === 'openMetrics') lines.push('# EOF');
  return `${lines.join('\n')}\n`;
}

function writeDistribution(
  lines: string[],
  name: string,
  labels: string,
  bounds: readonly number[],
  { counts, sum }: Distribution,
): void {
  const prefix = labels === '' ? '' : `${labels},`;
  let total = 0;
  for (const [index, count] of counts.entries()) {
    total += count;
    lines.push(line(`${name}_bucket`, `${prefix}le="${bounds[index] ?? '+Inf'}"`, total));
  }
  lines.push(line(`${name}_sum`, labels, sum), line(`${name}_count`, labels, total));
}

function line(name: string, labels: string, value: number): string {
  const text = Number.isFinite(value) ? String(value) : value > 0 ? '+Inf' : '-Inf';
  return labels === '' ? `${name} ${text}` : `${name}{${labels}} ${text}`;
}
