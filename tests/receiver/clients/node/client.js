// Sends one span, one metric and one log record in each form that the SDK for Node has.
// node client.js HTTP_PORT GRPC_PORT
import { diag, DiagConsoleLogger, DiagLogLevel, SpanStatusCode } from '@opentelemetry/api';
import { OTLPLogExporter as GrpcLogs } from '@opentelemetry/exporter-logs-otlp-grpc';
import { OTLPLogExporter as JsonLogs } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as ProtoLogs } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPMetricExporter as GrpcMetrics } from '@opentelemetry/exporter-metrics-otlp-grpc';
import { OTLPMetricExporter as JsonMetrics } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as ProtoMetrics } from '@opentelemetry/exporter-metrics-otlp-proto';
import { OTLPTraceExporter as GrpcSpans } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as JsonSpans } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtoSpans } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { LoggerProvider, SimpleLogRecordProcessor } from '@opentelemetry/sdk-logs';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BasicTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';

const [http, grpc] = process.argv.slice(2);
let failures = 0;
const logger = new DiagConsoleLogger();
const count = (...args) => { failures += 1; logger.error(...args); };
diag.setLogger({ error: count, warn: count, info() {}, debug() {}, verbose() {} }, DiagLogLevel.WARN);

const forms = {
  json: [JsonSpans, JsonMetrics, JsonLogs, 'none'],
  'json-gzip': [JsonSpans, JsonMetrics, JsonLogs, 'gzip'],
  protobuf: [ProtoSpans, ProtoMetrics, ProtoLogs, 'none'],
  'protobuf-gzip': [ProtoSpans, ProtoMetrics, ProtoLogs, 'gzip'],
  grpc: [GrpcSpans, GrpcMetrics, GrpcLogs, 'none'],
  'grpc-gzip': [GrpcSpans, GrpcMetrics, GrpcLogs, 'gzip'],
};
for (const [form, [Spans, Metrics, Logs, compression]] of Object.entries(forms)) {
  const to = (path) => ({
    url: form.startsWith('grpc') ? `http://127.0.0.1:${grpc}` : `http://127.0.0.1:${http}${path}`,
    compression,
  });
  const resource = resourceFromAttributes({ 'service.name': `node-${form}` });

  const tracers = new BasicTracerProvider({
    resource, spanProcessors: [new SimpleSpanProcessor(new Spans(to('/v1/traces')))],
  });
  const span = tracers.getTracer('client').startSpan(form, { attributes: { n: 1, text: 'ä', list: ['a', 'b'] } });
  span.addEvent('event', { x: 1.5 });
  span.setStatus({ code: SpanStatusCode.ERROR, message: 'wrong' });
  span.end();

  const meters = new MeterProvider({
    resource,
    readers: [new PeriodicExportingMetricReader({ exporter: new Metrics(to('/v1/metrics')) })],
  });
  meters.getMeter('client').createCounter('orders').add(3, { form });

  const loggers = new LoggerProvider({
    resource, processors: [new SimpleLogRecordProcessor({ exporter: new Logs(to('/v1/logs')) })],
  });
  loggers.getLogger('client').emit({ body: `line ${form}`, severityNumber: 9, severityText: 'INFO' });

  for (const provider of [tracers, meters, loggers]) {
    await provider.forceFlush();
    await provider.shutdown();
  }
}
process.exit(failures ? 1 : 0);
