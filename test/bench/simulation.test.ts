import { describe, expect, it } from 'vitest';
import { type SimulationOptions, simulate } from '../../bench/simulation.ts';

/** One server with a constant service time and nothing else that takes time. */
const plain: SimulationOptions = {
  seed: 1,
  durationMs: 100_000,
  warmUpMs: 10_000,
  load: { phases: [{ fromMs: 0, rate: 500 }] },
  instances: 1,
  instance: { before: 0, after: 1, query: 0 },
  spread: 0,
  database: { servers: 1, query: 0, key: 0, write: 0 },
  networkMs: 0,
};
/** All parts, an instance that ends, and more load than the rest can carry for a while. */
const whole: SimulationOptions = {
  ...plain,
  durationMs: 20_000,
  warmUpMs: 1_000,
  load: {
    phases: [
      { fromMs: 0, rate: 1_000 },
      { fromMs: 8_000, rate: 4_000 },
      { fromMs: 10_000, rate: 1_000 },
    ],
  },
  instances: 3,
  instance: { before: 0.3, after: 0.5, query: 0.1 },
  spread: 0.4,
  database: { servers: 2, query: 0.1, key: 0.02, write: 0.05 },
  networkMs: 0.25,
  lossAtMs: 9_000,
};
const ratio = (value: number, expected: number) => value / expected;

describe('the simulation', () => {
  // Poisson arrivals at a rate ρ, a service time of 1. A turn of N services, all of which end with it, is followed by one of as
  // many as came meanwhile, or of the next one to come. So E[N](1 − ρ) = P(none came) and E[N²](1 − ρ²) = ρE[N] + P(none came):
  // E[N²] / E[N] = 1 / (1 − ρ²) is the turn that one meets on arrival, half of which it waits for, before its own of 1 + ρ times that.
  it.each([0.3, 0.5, 0.8])('waits as a server does that works in turns, at a utilization of %d', (busy) => {
    const result = simulate({
      ...plain,
      durationMs: 300_000,
      load: { phases: [{ fromMs: 0, rate: busy * 1_000 }] },
    });
    const expected = 1 + (busy * (0.5 + busy)) / (1 - busy ** 2);
    expect(Math.abs(ratio(result.meanMs, expected) - 1)).toBeLessThan(0.03);
    expect(result.instanceUtilization).toBeCloseTo(busy, 2);
  });

  it("obeys Little's law", () => {
    for (const options of [plain, { ...whole, lossAtMs: undefined, durationMs: 8_000 }]) {
      const { meanPresent, rate, meanMs } = simulate(options);
      expect(ratio(meanPresent, (rate / 1_000) * meanMs)).toBeCloseTo(1, 1);
    }
  });

  it('answers each request once, though an instance ends and the load is too much', () => {
    const { arrived, answered, p99Ms } = simulate(whole);
    expect(answered).toBe(arrived);
    expect(arrived).toBeGreaterThan(25_000);
    expect(p99Ms).toBeGreaterThan(500);
  });

  it('keeps as many requests in flight as there are clients', () => {
    const { meanPresent, arrived, answered } = simulate({
      ...whole,
      load: { clients: 16 },
      lossAtMs: undefined,
    });
    expect(meanPresent).toBeCloseTo(16, 6);
    expect(answered).toBe(arrived);
  });

  it('joins the look-ups of many, and of one alone none', () => {
    const of = (clients: number) =>
      simulate({ ...whole, instances: 1, load: { clients }, lossAtMs: undefined, durationMs: 5_000 });
    expect(of(1).queriesAnExchange).toBeCloseTo(1, 2);
    expect(of(64).queriesAnExchange).toBeLessThan(0.2);
  });

  it('is the same in each run, and another with another seed', () => {
    expect(simulate(whole)).toEqual(simulate(whole));
    expect(simulate({ ...whole, seed: 2 }).meanMs).not.toBe(simulate(whole).meanMs);
  });
});
