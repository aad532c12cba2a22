import type { Report } from './report.ts';
import type { Spread } from './statistics.ts';

/** Medians of runs hours apart on one machine, with other work beside them, came out up to that far from each other. */
const leastNoise = 0.12;
/** The expected range of 2, 3, … 10 normal values, in standard deviations. */
const expectedRanges = [1.128, 1.693, 2.059, 2.326, 2.534, 2.704, 2.847, 2.97, 3.078];

/** Compared with a report that was recorded before. Lines for people. */
export interface Checked {
  readonly worse: readonly string[];
  /** Ratios that both have. */
  readonly compared: number;
}

/**
 * What is worse than it was by more than noise: two standard errors of the difference of both medians, by how far the
 * rounds of both runs lie apart, and {@link leastNoise} at least.
 */
export function checkAgainst(report: Report, recorded: Report): Checked {
  const worse: string[] = [];
  let compared = 0;
  for (const { connections, to, ...now } of report.comparisons) {
    const then = recorded.comparisons.find((one) => one.connections === connections && one.to === to);
    if (!then) continue;
    for (const [what, sign] of [
      ['throughput', -1],
      ['cpu', 1],
    ] as const) {
      compared += 1;
      const noise = noiseOf([now[what], report.conditions.rounds], [then[what], recorded.conditions.rounds]);
      if (sign * Math.log(now[what].median / then[what].median) <= Math.log1p(noise)) continue;
      worse.push(
        `${what === 'cpu' ? 'CPU' : what} to ${to}, ${connections} connections: ${now[what].median} now, ${then[what].median} recorded, ${Math.round(noise * 100)} % would be noise`,
      );
    }
  }
  return { worse, compared };
}

type Run = readonly [spread: Spread, rounds: number];

/** @returns by how much one ratio may exceed the other by chance, as a fraction of it */
export function noiseOf(now: Run, then: Run): number {
  return Math.max(leastNoise, Math.expm1(2 * Math.hypot(standardError(now), standardError(then))));
}

/** Of the median, in the logarithm of the ratio. */
function standardError([{ lowest, highest }, rounds]: Run): number {
  const range = expectedRanges[Math.min(rounds, expectedRanges.length + 1) - 2];
  if (range === undefined) throw new Error('one round does not show how far rounds lie apart: two at least');
  const deviation = Math.log(highest / lowest) / range;
  // A median of normal values is that much less certain than their mean.
  return (Math.sqrt(Math.PI / 2) * deviation) / Math.sqrt(rounds);
}
