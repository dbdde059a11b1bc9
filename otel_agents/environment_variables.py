"""The environment variables of otel-agents, where `opentelemetry-instrument --help` finds them."""

from typing import Final

OTEL_AGENTS_CONFIG: Final = "OTEL_AGENTS_CONFIG"
OTEL_AGENTS_HOME: Final = "OTEL_AGENTS_HOME"
OTEL_AGENTS_SINKS: Final = "OTEL_AGENTS_SINKS"
OTEL_AGENTS_SEMCONV: Final = "OTEL_AGENTS_SEMCONV"
