/** W3C Trace Context §3.2: who calls, and in which trace. */
export interface TraceParent {
  /** 32 lower-case hexadecimal digits, not all zero. */
  readonly traceId: string;
  /** 16 of them. */
  readonly spanId: string;
  readonly sampled: boolean;
}

/**
 * Of a `traceparent` field; undefined for what is none (§3.2.2: then it is as if there were none). Nothing else gets
 * through: it goes into logs.
 */
export function readTraceParent(field: string | string[] | undefined): TraceParent | undefined {
  if (typeof field !== 'string' || field.length < 55) return undefined;
  const version = field.slice(0, 2);
  // A later version may have more behind it (§3.2.4), ours has not; `ff` is none.
  if (!isHex(version) || version === 'ff' || (field.length > 55 && (version === '00' || field[55] !== '-')))
    return undefined;
  const [traceId, spanId, flags] = [field.slice(3, 35), field.slice(36, 52), field.slice(53, 55)];
  if (field[2] !== '-' || field[35] !== '-' || field[52] !== '-') return undefined;
  if (!isHex(traceId) || !isHex(spanId) || !isHex(flags) || isZero(traceId) || isZero(spanId))
    return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

function isHex(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    const digit = (code >= 48 && code <= 57) || (code >= 97 && code <= 102);
    if (!digit) return false;
  }
  return true;
}

const isZero = (text: string) => Number.parseInt(text, 16) === 0;
