// Sends one span, one metric and one log record in each form that the SDK for Go has.
//
//	client HTTP_PORT GRPC_PORT
package main

import (
	"context"
	"log"
	"os"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otellog "go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

func main() {
	http, grpc := "127.0.0.1:"+os.Args[1], "127.0.0.1:"+os.Args[2]
	for _, form := range []string{"protobuf", "protobuf-gzip", "grpc", "grpc-gzip"} {
		spans, metrics, logs := exporters(form, http, grpc)
		send(form, spans, metrics, logs)
	}
}

func exporters(form, http, grpc string) (*otlptrace.Exporter, sdkmetric.Exporter, sdklog.Exporter) {
	ctx := context.Background()
	packed := strings.HasSuffix(form, "gzip")
	if strings.HasPrefix(form, "grpc") {
		s := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(grpc), otlptracegrpc.WithInsecure()}
		m := []otlpmetricgrpc.Option{otlpmetricgrpc.WithEndpoint(grpc), otlpmetricgrpc.WithInsecure()}
		l := []otlploggrpc.Option{otlploggrpc.WithEndpoint(grpc), otlploggrpc.WithInsecure()}
		if packed {
			s = append(s, otlptracegrpc.WithCompressor("gzip"))
			m = append(m, otlpmetricgrpc.WithCompressor("gzip"))
			l = append(l, otlploggrpc.WithCompressor("gzip"))
		}
		return must(otlptracegrpc.New(ctx, s...)), must(otlpmetricgrpc.New(ctx, m...)), must(otlploggrpc.New(ctx, l...))
	}
	s := []otlptracehttp.Option{otlptracehttp.WithEndpoint(http), otlptracehttp.WithInsecure()}
	m := []otlpmetrichttp.Option{otlpmetrichttp.WithEndpoint(http), otlpmetrichttp.WithInsecure()}
	l := []otlploghttp.Option{otlploghttp.WithEndpoint(http), otlploghttp.WithInsecure()}
	if packed {
		s = append(s, otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
		m = append(m, otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
		l = append(l, otlploghttp.WithCompression(otlploghttp.GzipCompression))
	}
	return must(otlptracehttp.New(ctx, s...)), must(otlpmetrichttp.New(ctx, m...)), must(otlploghttp.New(ctx, l...))
}

func send(form string, spans *otlptrace.Exporter, metrics sdkmetric.Exporter, logs sdklog.Exporter) {
	ctx := context.Background()
	res := resource.NewSchemaless(attribute.String("service.name", "go-"+form))

	tracers := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spans), sdktrace.WithResource(res))
	_, span := tracers.Tracer("client").Start(ctx, form)
	span.SetAttributes(attribute.Int("n", 1), attribute.String("text", "ä"), attribute.StringSlice("list", []string{"a", "b"}))
	span.AddEvent("event")
	span.SetStatus(codes.Error, "wrong")
	span.End()

	reader := sdkmetric.NewPeriodicReader(metrics)
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(res))
	counter := must(meters.Meter("client").Int64Counter("orders"))
	counter.Add(ctx, 3, metric.WithAttributes(attribute.String("form", form)))

	loggers := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(logs)), sdklog.WithResource(res))
	var record otellog.Record
	record.SetBody(attribute.StringValue("line " + form))
	record.SetSeverity(otellog.SeverityInfo)
	record.SetSeverityText("INFO")
	loggers.Logger("client").Emit(ctx, record)

	check(tracers.ForceFlush(ctx))
	check(meters.ForceFlush(ctx))
	check(loggers.ForceFlush(ctx))
	check(tracers.Shutdown(ctx))
	check(meters.Shutdown(ctx))
	check(loggers.Shutdown(ctx))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
