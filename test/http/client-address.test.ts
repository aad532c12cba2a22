import { expect, it } from 'vitest';
import { clientAddress } from '../../server/http/client-address.ts';

it.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['2001:db8::1', '2001:db8::1'],
  // PostgreSQL's inet knows no zones.
  ['fe80::1%eth0', 'fe80::1'],
  ['unknown', null],
  ['192.0.2.1:443', null],
  ['%', null],
  ['', null],
])('%j is kept as %j', (ip, kept) => {
  expect(clientAddress({ ip })).toBe(kept);
});
