import { expect, it } from 'vitest';
import { authTimeOf, endedBySignOut } from '../../server/domain/sign-out.ts';

const at = (seconds: number) => new Date(seconds * 1000);

it('a sign-out ends all that began up to its second, and nothing that began after it', () => {
  expect(endedBySignOut(9, at(10.8))).toBe(true);
  expect(endedBySignOut(10, at(10.001))).toBe(true);
  expect(endedBySignOut(11, at(10.999))).toBe(false);
  expect(endedBySignOut(0, null)).toBe(false);
});

it('a sign-in after it is not ended by it, however soon it comes', () => {
  expect(authTimeOf(at(10.4), null)).toBe(10);
  expect(authTimeOf(at(10.4), at(3.9))).toBe(10);
  const signedOut = at(10.2);
  expect(authTimeOf(at(10.4), signedOut)).toBe(11);
  expect(endedBySignOut(authTimeOf(at(10.4), signedOut), signedOut)).toBe(false);
});
