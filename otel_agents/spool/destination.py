"""Where a spool's data go: what the program's own OTLP exporter was told, or the environment says.

The exporter is read, not used: the SDK's own retries for seconds in the caller, follows redirects
and reads replies of any length.
"""

from __future__ import annotations

import os
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_agents.spool.transport import Transport

_HTTP: Final = "opentelemetry.exporter.otlp.proto.http."
_GRPC: Final = "opentelemetry.exporter.otlp.proto.grpc."
_SERVICES: Final = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_DEFAULT_TIMEOUT: Final = 10.0
# Exporters that are named with their protocol.
_PROTOCOLS: Final = {"otlp_proto_grpc": "grpc", "otlp_proto_http": "http/protobuf"}


class Destination(NamedTuple):
    """An end point, as shown to people, and what makes a connection to it.

    A forked child makes a new connection. All that `connect` needs is imported by then: in a child
    that is forked while another thread imports, the module would stay half made for ever.
    """

    endpoint: str
    connect: Callable[[], Transport]


def of_exporter(signal: str, exporter: Any, longest: float = inf) -> Destination | None:
    """Return where an OTLP exporter of the SDK sends; None for an exporter of another kind.

    A request takes the exporter's time-out, and `longest` seconds at the most.
    A class derived from one may do anything with what it exports, and is left alone.
    """
    module = type(exporter).__module__
    if module.startswith(_HTTP):
        return _http(exporter, longest)
    return _grpc(signal, exporter, longest) if module.startswith(_GRPC) else None


def of_environment(
    signal: str, environ: Mapping[str, str] = os.environ, longest: float = inf
) -> Destination:
    """Return where the standard `OTEL_EXPORTER_OTLP_*` variables send a kind of data.

    Raises:
        ValueError: The protocol is one that nobody speaks, or the end point is no address.

    """
    exported = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip()
    protocol = _PROTOCOLS.get(exported, "")
    protocol = protocol or environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "").strip()
    protocol = protocol or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip() or "grpc"
    exporter: Any
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import (
            _log_exporter,
            metric_exporter,
            trace_exporter,
        )
    elif protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http import (  # type: ignore[no-redef]
            _log_exporter,
            metric_exporter,
            trace_exporter,
        )
    else:
        message = f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}: use grpc or http/protobuf"
        raise ValueError(message)
    if signal == "traces":
        exporter = trace_exporter.OTLPSpanExporter()
    elif signal == "metrics":
        exporter = metric_exporter.OTLPMetricExporter()
    else:
        exporter = _log_exporter.OTLPLogExporter()
    found = of_exporter(signal, exporter, longest)
    exporter.shutdown()
    assert found is not None  # noqa: S101 - it is one of the SDK's
    if protocol != "grpc" and not _is_address(found.endpoint):
        message = (
            f"{found.endpoint} is no address for {signal}: give OTEL_EXPORTER_OTLP_ENDPOINT with "
            "http:// or https://"
        )
        raise ValueError(message)
    return found


def _is_address(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _http(exporter: Any, longest: float) -> Destination | None:
    from otel_agents.spool.over_http import HttpTransport

    # Up to 1.43 the exporter holds these itself, then its client does.
    client = getattr(exporter, "_client", exporter)
    session = getattr(exporter, "_session", None)
    session = session or getattr(getattr(client, "_transport", None), "_session", None)
    endpoint = getattr(exporter, "_endpoint", None)
    headers = getattr(client, "_headers", None)
    if session is None or not isinstance(endpoint, str) or headers is None:
        return None
    compression = getattr(exporter, "_compression", None)
    encoding = str(getattr(compression, "value", "none"))
    timeout = min(float(getattr(client, "_timeout", None) or _DEFAULT_TIMEOUT), longest)
    # Up to 1.43 the certificates stand beside the session, and are given with each request.
    verify = getattr(exporter, "_certificate_file", None) or session.verify
    certificate = getattr(exporter, "_client_cert", None) or session.cert

    def connect() -> Transport:
        return HttpTransport(
            endpoint, dict(headers), encoding, timeout, session, verify, certificate
        )

    return Destination(endpoint, connect)


def _grpc(signal: str, exporter: Any, longest: float) -> Destination | None:
    from otel_agents.spool.over_grpc import GrpcTransport

    endpoint = getattr(exporter, "_endpoint", None)
    if not isinstance(endpoint, str) or not hasattr(exporter, "_insecure"):
        return None
    credentials = None if exporter._insecure else exporter._credentials  # noqa: SLF001
    headers = tuple(tuple(pair) for pair in getattr(exporter, "_headers", None) or ())
    timeout = min(float(getattr(exporter, "_timeout", None) or _DEFAULT_TIMEOUT), longest)
    compression = getattr(exporter, "_compression", None)
    options = tuple(getattr(exporter, "_channel_options", None) or ())

    def connect() -> Transport:
        return GrpcTransport(
            endpoint, _SERVICES[signal], headers, credentials, timeout, compression, options
        )

    return Destination(endpoint, connect)
