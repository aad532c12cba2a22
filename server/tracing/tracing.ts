import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import {
  type Attributes,
  type Context,
  createTraceState,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  type SpanOptions,
  SpanStatusCode,
  TraceFlags,
  trace,
} from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type ReadableSpan,
  type Sampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import type { Logger } from 'pino';
import type { TracingConfig } from '../../config/env.ts';
import { policy } from '../../config/policy.ts';
import { packageVersion } from '../version.ts';

/**
 * OpenTelemetry's SDK, where an endpoint is configured: this file is loaded only then. Spans are children of the request
 * under way, which is found by a storage of our own, so that nothing global is registered. What is behind the answers
 * (sweeps, the writing of usage) has none.
 */
export interface Spans {
  /**
   * Of the request under way, or below a span that is given; undefined where there is none, where it has ended, or
   * where it is not sampled.
   */
  start(name: string, options: SpanOptions, below?: Span): Span | undefined;
  /** The span of a request, and what it does. */
  request<T>(remote: RemoteParent | undefined, attributes: Attributes, work: (span: Span) => T): T;
  /** Lets go of the exporter: what waits is sent, for a bounded time. */
  close(): Promise<void>;
}

export interface RemoteParent {
  readonly traceId: string;
  readonly spanId: string;
  readonly sampled: boolean;
  readonly state: string | undefined;
}

export function openSpans(config: TracingConfig, logger: Logger): Spans {
  const exporter = watchExporter(
    new OTLPTraceExporter({
      url: config.endpoint,
      timeoutMillis: policy.traceExportTimeoutMs,
      // An endpoint whose answers do not end holds so many connections, and no more.
      concurrencyLimit: 2,
    }),
    logger,
  );
  const provider = new TracerProvider({
    resource: defaultResource()
      .merge(
        resourceFromAttributes({ 'service.name': 'platform-tokens', 'service.version': packageVersion() }),
      )
      // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, as the SDK reads them.
      .merge(detectResources({ detectors: [envDetector] })),
    sampler: createSampler(config.sampler),
    spanLimits: { attributeValueLengthLimit: 256 },
    spanProcessors: [
      new BatchSpanProcessor({
        exporter,
        maxQueueSize: policy.traceQueueSize,
        exportTimeoutMillis: policy.traceExportTimeoutMs,
      }),
    ],
  });
  const tracer = provider.getTracer('platform-tokens');
  const present = new AsyncLocalStorage<Context>();

  return {
    start(name, options, below) {
      const parent = below ? trace.setSpan(ROOT_CONTEXT, below) : present.getStore();
      if (!parent || !trace.getSpan(parent)?.isRecording()) return undefined;
      return tracer.startSpan(name, options, parent);
    },
    request(remote, attributes, work) {
      const span = tracer.startSpan('request', { kind: SpanKind.SERVER, attributes }, contextOf(remote));
      return present.run(trace.setSpan(ROOT_CONTEXT, span), () => work(span));
    },
    async close() {
      const closed = provider.shutdown().catch(() => {});
      await Promise.race([closed, delay(policy.traceFlushLimitMs, undefined, { ref: false })]);
    },
  };
}

/** Ends a span with what came of its work. */
export function endSpan(span: Span | undefined, error?: unknown): void {
  if (!span) return;
  if (error !== undefined) {
    const { code, name } = error as { code?: unknown; name?: unknown };
    // Never the message: PostgreSQL's has values in it.
    span.setAttribute('error.type', typeof code === 'string' ? code : String(name ?? 'error'));
    span.setStatus({ code: SpanStatusCode.ERROR });
  }
  span.end();
}

function contextOf(remote: RemoteParent | undefined): Context {
  if (!remote) return ROOT_CONTEXT;
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId: remote.traceId,
    spanId: remote.spanId,
    traceFlags: remote.sampled ? TraceFlags.SAMPLED : TraceFlags.NONE,
    isRemote: true,
    ...(remote.state === undefined ? {} : { traceState: createTraceState(remote.state) }),
  });
}

function createSampler({ name, ratio }: TracingConfig['sampler']): Sampler {
  const [, parentBased, root = 'always_on'] = /^(parentbased_)?(.*)$/.exec(name) ?? [];
  const samplers: Record<string, () => Sampler> = {
    always_on: () => new AlwaysOnSampler(),
    always_off: () => new AlwaysOffSampler(),
    traceidratio: () => new TraceIdRatioBasedSampler(ratio),
  };
  const sampler = samplers[root]?.() ?? new AlwaysOnSampler();
  return parentBased ? new ParentBasedSampler({ root: sampler }) : sampler;
}

type Exporter = OTLPTraceExporter;

/** Says that traces are lost, once in a while: an endpoint that is down would else fill the log. */
function watchExporter(exporter: Exporter, logger: Logger): Exporter {
  let saidAt = Number.NEGATIVE_INFINITY;
  const send = exporter.export.bind(exporter);
  exporter.export = (spans: ReadableSpan[], done) => {
    send(spans, (result) => {
      if (result.code !== 0 && performance.now() - saidAt > policy.traceComplaintIntervalMs) {
        saidAt = performance.now();
        logger.warn({ err: result.error, spans: spans.length }, 'traces could not be exported');
      }
      done(result);
    });
  };
  return exporter;
}
