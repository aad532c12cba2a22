import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { drawBars } from './chart.ts';
import { type Name, names, type Report } from './report.ts';

const directory = new URL('../docs/performance/', import.meta.url);
/** What `npm run bench -- --check` compares with. */
export const recordedFile = new URL('bench.json', directory);

/** The figures for machines, and charts for people, into docs/performance/. */
export async function writeRecorded(report: Report): Promise<void> {
  await mkdir(directory, { recursive: true });
  const { stdout } = await promisify(execFile)('git', ['rev-parse', '--short', 'HEAD']);
  const recorded = { commit: stdout.trim(), recordedOn: new Date().toISOString().slice(0, 10), ...report };
  await writeFile(recordedFile, `${JSON.stringify(recorded, null, 2)}\n`);
  const drawn = names.filter((name) => name !== 'noop');
  const levels = [...new Set(report.rows.map(({ connections }) => connections))];
  const chart = (title: string, unit: string, value: (row: Report['rows'][number]) => number) =>
    drawBars({
      title,
      unit,
      groups: levels.map((connections) => ({
        label: `${connections} connection${connections > 1 ? 's' : ''}`,
        values: drawn.map((name) => figureOf(report, name, connections, value)),
      })),
      series: drawn,
    });
  await writeFile(
    new URL('throughput.svg', directory),
    chart('Requests a second', '', ({ requestsPerSecond }) => requestsPerSecond),
  );
  await writeFile(
    new URL('cpu.svg', directory),
    chart('CPU of the server process a request', 'µs', ({ cpuMs }) => cpuMs * 1000),
  );
  await writeFile(
    new URL('latency.svg', directory),
    chart('99th percentile at half load', 'ms', ({ halfP99Ms }) => halfP99Ms),
  );
}

function figureOf(
  { rows }: Report,
  name: Name,
  connections: number,
  value: (row: Report['rows'][number]) => number,
): number {
  const row = rows.find((one) => one.name === name && one.connections === connections);
  return row ? value(row) : 0;
}
