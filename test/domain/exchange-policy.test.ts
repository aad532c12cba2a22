import { describe, expect, it } from 'vitest';
import {
  decideExchange,
  type ExchangeRequest,
  type ExchangeSubject,
} from '../../server/domain/exchange-policy.ts';

const now = new Date('2026-05-01T12:00:00Z');
const inSeconds = (seconds: number) => new Date(now.getTime() + seconds * 1000);
const subject: ExchangeSubject = {
  id: 'token',
  organizationId: 'organization',
  userId: 'user',
  serviceId: 'strings',
  audience: 'https://strings.example.com',
  scopes: ['read', 'write', 'projects:read'],
  statusIndex: 7,
  expiresAt: inSeconds(86_400),
  revokedAt: null,
  active: true,
};
const decide = (change: Partial<ExchangeSubject>, request: Partial<ExchangeRequest> = {}) =>
  decideExchange(
    { ...subject, ...change },
    { scope: undefined, resource: undefined, audience: undefined, ...request },
    now,
  );
const granted = {
  granted: true,
  scope: 'read write projects:read',
  audience: subject.audience,
  expiresIn: 14_400,
};
const refused = (refusal: string) => ({ granted: false, refusal });

describe('exchange policy', () => {
  it('grants all scopes for four hours where nothing is asked', () => {
    expect(decide({})).toEqual(granted);
  });

  it('refuses an unknown token', () => {
    const request = { scope: undefined, resource: undefined, audience: undefined };
    expect(decideExchange(undefined, request, now)).toEqual(refused('invalid_subject_token'));
  });

  it.each([
    ['a revoked one', { revokedAt: inSeconds(-1) }],
    ['one whose revocation carries a later time', { revokedAt: inSeconds(60) }],
    ['an inactive one', { active: false }],
    ['an expired one', { expiresAt: inSeconds(-1) }],
    ['one that expires now', { expiresAt: now }],
    ['one with less than a second left', { expiresAt: inSeconds(0.999) }],
  ])('refuses %s, whatever else was asked', (_name, change) => {
    expect(decide(change)).toEqual(refused('invalid_subject_token'));
    expect(decide(change, { scope: 'more' })).toEqual(refused('invalid_subject_token'));
    expect(decide(change, { audience: 'elsewhere' })).toEqual(refused('invalid_subject_token'));
  });

  it.each([
    [1, 1],
    [1.999, 1],
    [14_399, 14_399],
    [14_400, 14_400],
    [14_401, 14_400],
  ])('with %d seconds left grants %d', (left, expiresIn) => {
    expect(decide({ expiresAt: inSeconds(left) })).toMatchObject({ granted: true, expiresIn });
  });

  it.each([
    ['read', 'read'],
    ['write read', 'read write'],
    ['read read', 'read'],
    ['projects:read', 'projects:read'],
  ])('grants of the scopes %j exactly %j', (scope, expected) => {
    expect(decide({}, { scope })).toMatchObject({ granted: true, scope: expected });
  });

  it.each(['admin', 'read admin', 'READ', 'rea', ' ', 'read,write', 'read\twrite'])(
    'refuses the scope %j',
    (scope) => {
      expect(decide({}, { scope })).toEqual(refused('invalid_scope'));
    },
  );

  it.each([
    { resource: subject.audience },
    { audience: subject.audience },
    { audience: subject.serviceId },
    { audience: subject.serviceId, resource: subject.audience },
  ])('grants the own service as target: %j', (request) => {
    expect(decide({}, request)).toEqual(granted);
  });

  it.each([
    { resource: subject.serviceId },
    { resource: `${subject.audience}/` },
    { audience: 'tms' },
    { audience: subject.audience, resource: 'https://tms.example.com' },
    { audience: 'tms', resource: subject.audience },
    { resource: [subject.audience, 'https://tms.example.com'] },
    { audience: [subject.audience, subject.audience] },
    { audience: [] },
  ])('refuses any other target: %j', (request) => {
    expect(decide({}, request)).toEqual(refused('invalid_target'));
  });
});
