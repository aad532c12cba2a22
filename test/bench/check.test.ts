import { describe, expect, it } from 'vitest';
import { checkAgainst, noiseOf } from '../../bench/check.ts';
import type { Report } from '../../bench/report.ts';
import { createRandom } from '../../bench/simulation.ts';
import { spreadOf } from '../../bench/statistics.ts';

/** Ratios of rounds around 1, by how far apart (the deviation of their logarithm). */
function createRuns(seed: number) {
  const { normal } = createRandom(seed);
  return (rounds: number, deviation: number) =>
    spreadOf(Array.from({ length: rounds }, () => Math.exp(deviation * normal())));
}

const reportOf = (cpu: number[], throughput = cpu.map(() => 1), connections = 64) =>
  ({
    comparisons: [{ connections, to: 'hand-written', throughput: spreadOf(throughput), cpu: spreadOf(cpu) }],
    conditions: { rounds: cpu.length },
  }) as unknown as Report;

describe('what is worse than recorded', () => {
  const recorded = reportOf([0.98, 0.99, 1, 1.01, 1.02]);

  it('is said with both figures and what would be noise', () => {
    expect(checkAgainst(reportOf([1.28, 1.29, 1.3, 1.31, 1.32]), recorded)).toEqual({
      worse: ['CPU to hand-written, 64 connections: 1.3 now, 1 recorded, 12 % would be noise'],
      compared: 2,
    });
    const slower = reportOf([0.98, 0.99, 1, 1.01, 1.02], [0.7, 0.7, 0.7, 0.7, 0.7]);
    expect(checkAgainst(slower, recorded).worse).toEqual([
      'throughput to hand-written, 64 connections: 0.7 now, 1 recorded, 12 % would be noise',
    ]);
  });

  it('is nothing where it is better, equal or within the noise', () => {
    for (const cpu of [0.5, 1, 1.11])
      expect(checkAgainst(reportOf([cpu, cpu, cpu, cpu, cpu]), recorded).worse).toEqual([]);
    // As far from it as the one above, but so are its rounds from each other.
    expect(checkAgainst(reportOf([0.8, 1.1, 1.3, 1.5, 1.9]), recorded).worse).toEqual([]);
  });

  it('is compared where both have it', () => {
    const elsewhere = reportOf([9, 9], [1, 1], 7);
    expect(checkAgainst(elsewhere, recorded)).toEqual({ worse: [], compared: 0 });
  });
});

describe('noise', () => {
  it('is exceeded by chance by few of the ratios, however far rounds lie apart', () => {
    const run = createRuns(1);
    for (const deviation of [0.05, 0.1, 0.2, 0.4]) {
      let exceeded = 0;
      for (let n = 0; n < 10_000; n += 1) {
        const [now, then] = [run(5, deviation), run(5, deviation)];
        if (Math.log(now.median / then.median) > Math.log1p(noiseOf([now, 5], [then, 5]))) exceeded += 1;
      }
      expect(exceeded / 10_000).toBeLessThan(0.05);
    }
  });

  it('is less with more rounds, and never less than what runs hours apart show', () => {
    const run = createRuns(2);
    const mean = (rounds: number, deviation: number) => {
      let sum = 0;
      for (let n = 0; n < 1_000; n += 1)
        sum += noiseOf([run(rounds, deviation), rounds], [run(rounds, deviation), rounds]);
      return sum / 1_000;
    };
    expect(mean(10, 0.2)).toBeLessThan(mean(5, 0.2) / 1.3);
    expect(mean(20, 0.2)).toBeLessThan(mean(10, 0.2));
    expect(mean(5, 0.01)).toBeCloseTo(0.12);
  });

  it('is unknown of one round', () => {
    const one = spreadOf([1]);
    expect(() => noiseOf([one, 1], [one, 1])).toThrow('one round');
  });
});
