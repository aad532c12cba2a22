import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DomainError } from '../../server/domain/errors.ts';
import {
  createKeyTimes,
  isRotationDue,
  planSuccession,
  publicationLead,
  retirementDelay,
  type ScheduledKey,
  scheduleAt,
} from '../../server/domain/key-schedule.ts';

const times = createKeyTimes(90);
const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1) + seconds * 1000);
const first: ScheduledKey = { kid: 'a', publishedAt: at(0), activatesAt: at(0), retiresAt: null };

/** The keys after each of these rotations, at the given seconds. */
function rotateAt(moments: readonly number[]): ScheduledKey[] {
  let keys: ScheduledKey[] = [first];
  moments.forEach((moment, index) => {
    const { publishedAt, activatesAt, predecessorRetiresAt } = planSuccession(times, at(moment));
    keys = keys.map((key) => (key.retiresAt ? key : { ...key, retiresAt: predecessorRetiresAt }));
    keys.push({ kid: `key-${index}`, publishedAt, activatesAt, retiresAt: null });
  });
  return keys;
}

describe('a signing key', () => {
  it('is published for 690 seconds before its first signature: ten minutes, refresh interval and skew', () => {
    expect(publicationLead(times)).toBe(600 + 30 + 60);
    const { activatesAt } = planSuccession(times, at(0));
    expect(activatesAt).toEqual(at(690));
  });

  it('stays for 4 hours, ten minutes and skew after its last signature', () => {
    expect(retirementDelay(times)).toBe(14_400 + 600 + 60);
    const { predecessorRetiresAt } = planSuccession(times, at(0), at(1_000));
    expect(predecessorRetiresAt).toEqual(at(1_000 + 15_060));
  });

  it.each([0, 1, 689])('is refused where it would sign %i seconds after its publication', (seconds) => {
    expect(() => planSuccession(times, at(0), at(seconds))).toThrow(DomainError);
  });

  it('is next, then current, then previous, then gone, by the clock alone', () => {
    const keys = rotateAt([1_000]);
    const seen = (seconds: number) =>
      scheduleAt(keys, at(seconds)).published.map(({ kid, state }) => `${kid} ${state}`);
    expect(seen(1_000)).toEqual(['a current', 'key-0 next']);
    expect(seen(1_689)).toEqual(['a current', 'key-0 next']);
    expect(seen(1_690)).toEqual(['key-0 current', 'a previous']);
    expect(seen(1_690 + 15_059)).toEqual(['key-0 current', 'a previous']);
    expect(seen(1_690 + 15_060)).toEqual(['key-0 current']);
    expect(scheduleAt(keys, at(1_000)).changesAt).toEqual(at(1_690));
    expect(scheduleAt(keys, at(20_000)).changesAt).toBeUndefined();
  });

  it('signs before its time where no other can: by a clock that is behind', () => {
    const { current, published } = scheduleAt([first], at(-1));
    expect(current).toBe(first);
    expect(published).toMatchObject([{ kid: 'a', state: 'current' }]);
    expect(scheduleAt(rotateAt([1_000]), at(1_689)).current?.kid).toBe('a');
  });

  it('is due once its predecessor has signed for the interval, less the lead, and not while one waits', () => {
    const interval = 90 * 86_400;
    const due = (keys: ScheduledKey[], seconds: number) =>
      isRotationDue(scheduleAt(keys, at(seconds)), times, at(seconds));
    expect(due([first], interval - 691)).toBe(false);
    expect(due([first], interval - 690)).toBe(true);
    expect(due(rotateAt([interval - 690]), interval - 689)).toBe(false);
    expect(due([], interval)).toBe(false);
  });
});

const moments = fc
  .array(fc.integer({ min: 700, max: 40_000 }), { minLength: 1, maxLength: 8 })
  .map((gaps) => {
    let moment = 0;
    return gaps.map((gap) => {
      moment += gap;
      return moment;
    });
  });

describe('any sequence of rotations', () => {
  it('never lets a verifier meet a signature by a key that its copy of the JWKS lacks', () => {
    fc.assert(
      fc.property(
        moments,
        fc.integer({ min: 0, max: 400_000 }),
        fc.integer({ min: 0, max: 14_400 }),
        (when, signedAt, later) => {
          const keys = rotateAt(when);
          const signer = scheduleAt(keys, at(signedAt)).current;
          if (!signer) throw new Error('nobody signs');
          // The oldest copy that a verifier may hold, from the slowest instance, with clocks apart.
          const copyOf = (moment: number) => {
            const read = moment - times.jwksCopyAge - times.refreshInterval - times.clockSkew;
            const known = keys.filter(({ publishedAt }) => publishedAt <= at(Math.max(read, 0)));
            return scheduleAt(known, at(Math.max(read, 0))).published.map(({ kid }) => kid);
          };
          expect(copyOf(signedAt)).toContain(signer.kid);
          // …and as long as the token lives, also in the freshest copy.
          expect(scheduleAt(keys, at(signedAt + later)).published.map(({ kid }) => kid)).toContain(
            signer.kid,
          );
        },
      ),
      { numRuns: 2_000 },
    );
  });

  it('gives every instance the same answer, whatever the order of the rows', () => {
    fc.assert(
      fc.property(moments, fc.integer({ min: 0, max: 400_000 }), (when, now) => {
        const keys = rotateAt(when);
        expect(scheduleAt(keys.toReversed(), at(now))).toEqual(scheduleAt(keys, at(now)));
      }),
    );
  });

  it('says when it will change, and does not change before', () => {
    fc.assert(
      fc.property(moments, fc.integer({ min: 0, max: 400_000 }), (when, now) => {
        const keys = rotateAt(when);
        const { published, changesAt } = scheduleAt(keys, at(now));
        if (!changesAt) return;
        const justBefore = new Date(changesAt.getTime() - 1);
        expect(scheduleAt(keys, justBefore).published).toEqual(published);
        expect(scheduleAt(keys, changesAt).published).not.toEqual(published);
      }),
    );
  });
});
