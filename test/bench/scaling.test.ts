import { describe, expect, it } from 'vitest';
import { fitCost, inputs } from '../../bench/scaling-inputs.ts';
import { eventsOf, instancesFor, plan, touchedPages } from '../../bench/scaling-model.ts';

describe('the capacity model', () => {
  it('fits what an exchange and a query cost', () => {
    const levels = [1, 0.5, 0.1].map((lookups) => ({ connections: 1, lookups, cpuMs: 0.2 + 0.3 * lookups }));
    const { exchangeMs, queryMs } = fitCost(levels);
    expect(exchangeMs).toBeCloseTo(0.2, 10);
    expect(queryMs).toBeCloseTo(0.3, 10);
  });

  it('counts a page once, however often it is touched', () => {
    expect(touchedPages(1_000, 1)).toBeCloseTo(1, 2);
    expect(touchedPages(1_000, 100_000)).toBeCloseTo(1_000, 6);
    expect(touchedPages(0, 10)).toBe(0);
  });

  it('has a spare instance, a zone that may be lost, and as many in each', () => {
    // 6 vCPU of work: ten instances at 60 %, one more, made even; a zone lost leaves seven at 86 %.
    expect(instancesFor(6_000, 1, inputs)).toBe(14);
    expect(instancesFor(1, 0.1, inputs)).toBe(2);
  });

  it('summarizes less the more instances share a client', () => {
    expect(eventsOf(60, 1)).toBeCloseTo(0.1, 10);
    expect(eventsOf(60, 5)).toBeCloseTo(0.5, 10);
    expect(eventsOf(60, 100)).toBe(1);
  });

  it('needs more for more, and shares nothing out that one primary bears', () => {
    const [small, large] = [plan(1e8, inputs), plan(1e10, inputs)];
    expect(large.cost.total).toBeGreaterThan(small.cost.total);
    expect(large.instances).toBeGreaterThan(small.instances);
    expect(small.pressure[0]?.ratio).toBeLessThan(1);
  });
});
