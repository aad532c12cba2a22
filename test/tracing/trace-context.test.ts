import { expect, it } from 'vitest';
import { readTraceParent } from '../../server/http/trace-context.ts';

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const spanId = '00f067aa0ba902b7';

it.each([
  ['nothing', undefined],
  ['an empty field', ''],
  ['two of them, as Node.js joins them', `00-${traceId}-${spanId}-01, 00-${traceId}-${spanId}-01`],
  ['capitals', `00-${traceId.toUpperCase()}-${spanId}-01`],
  ['a trace id of zeros', `00-${'0'.repeat(32)}-${spanId}-01`],
  ['a span id of zeros', `00-${traceId}-${'0'.repeat(16)}-01`],
  ['the version that is none', `ff-${traceId}-${spanId}-01`],
  ['more behind our version', `00-${traceId}-${spanId}-01-x`],
  ['more without a hyphen behind a later version', `01-${traceId}-${spanId}-01x`],
  ['no hexadecimal digits', `00-${'g'.repeat(32)}-${spanId}-01`],
  ['other separators', `00_${traceId}_${spanId}_01`],
  ['a platform token', `ptk_${'a'.repeat(51)}`],
])('takes %s for none', (_what, field) => {
  expect(readTraceParent(field)).toBeUndefined();
});

it('reads ours, and what it knows of later versions', () => {
  expect(readTraceParent(`00-${traceId}-${spanId}-01`)).toEqual({ traceId, spanId, sampled: true });
  expect(readTraceParent(`00-${traceId}-${spanId}-00`)).toEqual({ traceId, spanId, sampled: false });
  expect(readTraceParent(`cc-${traceId}-${spanId}-03-what-will-be`)).toEqual({
    traceId,
    spanId,
    sampled: true,
  });
});
